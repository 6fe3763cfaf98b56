package Parley::Issuer;

# Who signs tokens: keys, a JWK set over HTTP, and a count of how often it was asked for.
#
#	my $issuer = Parley::Issuer->new;
#	$issuer->add('k1', 'EdDSA');			# a key appears in the set
#	$issuer->token('k1', sub => 'alice');		# signed with it
#	$issuer->remove('k1');				# goes from the set; still signs
#	$issuer->url('/any'); $issuer->hits('/any');
#	$issuer->down(503);				# answers that from now on; down('slow'): not at all
#	$issuer->up;

use strict;
use warnings;

use Crypt::JWT ();
use Crypt::PK::ECC;
use Crypt::PK::Ed25519;
use Crypt::PK::RSA;
use IO::Socket::INET;
use JSON::XS ();
use Time::HiRes ();

use Parley::Process;

sub new {
	my ($class) = @_;
	my $self = bless { owner_pid => $$, dir => Parley::Process::tempdir(), keys => {}, shown => {} }, $class;

	$self->{listener} = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64, ReuseAddr => 1) or die "listen: $@";
	$self->{port} = $self->{listener}->sockport;
	$self->_publish;
	$self->{pid} = fork // die "fork: $!";
	if ($self->{pid} == 0) {
		eval { $self->_serve };
		print STDERR "# issuer: $@" if $@;
		require POSIX;
		POSIX::_exit(1);
	}
	close delete $self->{listener};
	return $self;
}

sub url { "http://127.0.0.1:$_[0]{port}" . ($_[1] // '/jwks') }

sub make_key {
	my ($alg) = @_;
	return Crypt::PK::RSA->new->generate_key(256) if $alg =~ /^[RP]S/;
	return Crypt::PK::Ed25519->new->generate_key if $alg eq 'EdDSA';
	my %curve = (ES256 => 'secp256r1', ES384 => 'secp384r1', ES512 => 'secp521r1');
	return Crypt::PK::ECC->new->generate_key($curve{$alg});
}

sub add {
	my ($self, $kid, $alg) = @_;
	$self->{keys}{$kid} //= { alg => $alg, key => make_key($alg) };
	$self->{shown}{$kid} = 1;
	$self->_publish;
}

# A key that signs but is not in the set.
sub hide {
	my ($self, $kid, $alg) = @_;
	$self->{keys}{$kid} //= { alg => $alg, key => make_key($alg) };
}

sub remove {
	my ($self, $kid) = @_;
	delete $self->{shown}{$kid};
	$self->_publish;
}

sub token {
	my ($self, $kid, %claims) = @_;
	my $k = $self->{keys}{$kid};

	return Crypt::JWT::encode_jwt(
		payload => { sub => 'alice', iat => time, exp => time + 900, %claims },
		alg => $claims{alg} // $k->{alg}, key => $k->{key}, extra_headers => { kid => $kid });
}

sub down { my ($self, $how) = @_; $self->_write('down', $how) }
sub up { unlink "$_[0]{dir}/down" }

# How often a path was asked for.
sub hits {
	my ($self, $path) = @_;
	$path //= '/jwks';
	return scalar grep { $_ eq $path } split /\n/, $self->_read('hits') // '';
}

sub _publish {
	my ($self) = @_;
	my @keys = map { { %{$self->{keys}{$_}{key}->export_key_jwk('public', 1)}, kid => $_, alg => $self->{keys}{$_}{alg} } }
	    sort keys %{$self->{shown}};
	$self->_write('set', JSON::XS->new->canonical->encode({ keys => \@keys }));
}

sub _write {
	my ($self, $name, $text) = @_;
	open my $fh, '>', "$self->{dir}/$name.new" or die "$name: $!";
	print $fh $text;
	close $fh;
	rename "$self->{dir}/$name.new", "$self->{dir}/$name" or die "$name: $!";
}

sub _read {
	my ($self, $name) = @_;
	open my $fh, '<', "$self->{dir}/$name" or return undef;
	local $/;
	return <$fh>;
}

# In the child, one connection after another: nobody keeps one open.
sub _serve {
	my ($self) = @_;
	my @kept;

	$SIG{TERM} = 'DEFAULT';
	$SIG{PIPE} = 'IGNORE';
	while (my $c = $self->{listener}->accept) {
		my $first = <$c> // next;
		my ($path) = $first =~ m{^GET (\S+) } or next;
		while (my $line = <$c>) {
			last if $line =~ /^\r?\n$/;
		}
		open my $fh, '>>', "$self->{dir}/hits" or die "hits: $!";
		print $fh "$path\n";
		close $fh;

		my $down = $self->_read('down');
		if (defined $down && $down eq 'slow') {
			push @kept, $c;		# no answer, and no end either
			next;
		}
		my $body = defined $down ? 'no' : $self->_read('set');
		my $status = $down // '200';
		print $c "HTTP/1.1 $status Whatever\r\nContent-Type: application/json\r\nContent-Length: "
		    . length($body) . "\r\nConnection: close\r\n\r\n$body";
		close $c;
	}
}

sub DESTROY {
	my ($self) = @_;
	return if $$ != $self->{owner_pid} || !$self->{pid};
	local ($?, $!);
	kill 'KILL', $self->{pid};
	waitpid $self->{pid}, 0;
	require File::Path;
	File::Path::remove_tree($self->{dir});
}

1;
