package Parley::Curl;

# One request by curl, read as it comes: TLS and HTTP/2 as real clients speak them.
#
#	my $c = Parley::Curl->new("$url/api/chat", method => 'POST', body => $bytes, headers => { Accept => '…' },
#	    ca => 'ca.pem', http2 => 1);
#	$c->head;		# { status, protocol, headers }: waits for it
#	$c->event;		# the next event of a stream: { event, id, data }; undef at its end
#	$c->response;		# { status, protocol, headers, body, json, cut }: waits for all; cut: it was not whole
#	$c->close;		# the client goes away
#
# Other options: chunked => 1 (the length of the body is not told), seconds (60: the most that all may take).
# A request that no answer came to has status 599.

use strict;
use warnings;

use File::Temp ();
use JSON::XS ();
use POSIX ();

my $JSON = JSON::XS->new->utf8->allow_nonref;

sub missing { return system('curl --version >/dev/null 2>&1') != 0 ? 'curl is missing (Debian: curl)' : '' }

sub new {
	my ($class, $url, %opt) = @_;
	my $self = bless { owner_pid => $$, in => '' }, $class;
	my $method = $opt{method} // 'GET';
	# -g: brackets and braces are what they are; --path-as-is: so are dots.
	my @cmd = ('curl', '-q', '-sigN', '--path-as-is', '--noproxy', '*', '--max-time', $opt{seconds} // 60);

	push @cmd, '--cacert', $opt{ca} if defined $opt{ca};
	push @cmd, $opt{http2} ? '--http2' : '--http1.1';
	push @cmd, $method eq 'HEAD' ? '-I' : ('-X', $method);
	my %h = ('Content-Type' => defined $opt{body} ? 'application/json' : undef, %{$opt{headers} // {}});
	push @cmd, '-H', length $h{$_} ? "$_: $h{$_}" : "$_;" for sort grep { defined $h{$_} } keys %h;
	if (defined $opt{body}) {
		$self->{file} = File::Temp->new(TEMPLATE => 'parley-XXXXXXXX', DIR => '/tmp');
		print { $self->{file} } $opt{body};
		$self->{file}->flush;
		push @cmd, $opt{chunked} ? ('-T', '-') : ('--data-binary', '@' . $self->{file}->filename);
	}
	my $stdin = $opt{chunked} ? $self->{file}->filename : '/dev/null';
	$self->{pid} = open($self->{from}, '-|') // die "fork: $!";
	if ($self->{pid} == 0) {
		open STDIN, '<', $stdin;
		exec 'setpriv', '--pdeathsig', 'TERM', @cmd, $url or POSIX::_exit(127);
	}
	binmode $self->{from};
	return $self;
}

sub head {
	my ($self) = @_;

	while (!$self->{head}) {
		if ($self->{in} !~ /\r\n\r\n/) {
			$self->_more or $self->{head} = { status => 599, protocol => '', headers => {} };
			next;
		}
		$self->{in} =~ s/^(.*?)\r\n\r\n//s;
		my ($first, @lines) = split /\r\n/, $1;
		my ($protocol, $status) = split / /, $first;
		next if $status =~ /^1/;
		my %headers;
		for (@lines) {
			my ($name, $value) = /^([^:]+):\s*(.*?)\s*$/ or next;
			$headers{lc $name} = exists $headers{lc $name} ? "$headers{lc $name}, $value" : $value;
		}
		$self->{head} = { status => $status, protocol => $protocol, headers => \%headers };
	}
	return $self->{head};
}

sub event {
	my ($self) = @_;

	$self->head;
	while (1) {
		while ($self->{in} =~ s/^(.*?)\n\n//s) {
			my %e = map { /^(event|id|data): ?(.*)$/ ? ($1 => $2) : () } split /\n/, $1;
			next unless exists $e{data};
			$e{data} = eval { $JSON->decode($e{data}) };
			return \%e;
		}
		$self->_more or return undef;
	}
}

sub response {
	my ($self) = @_;
	my %r = %{$self->head};

	1 while $self->_more;
	$r{body} = $self->{in};
	$r{json} = eval { $JSON->decode($r{body}) } if ($r{headers}{'content-type'} // '') =~ m{^application/json};
	$r{cut} = 1 if $self->{exit};
	return \%r;
}

sub close {
	my ($self) = @_;
	my $from = delete $self->{from} or return;

	local ($?, $!);
	kill 'TERM', $self->{pid};
	CORE::close $from;
}

sub _more {
	my ($self) = @_;
	my $from = $self->{from} or return 0;

	return 1 if sysread $from, $self->{in}, 65536, length $self->{in};
	local ($?, $!);
	CORE::close delete $self->{from};
	$self->{exit} = $?;
	return 0;
}

sub DESTROY { $_[0]->close if $$ == $_[0]{owner_pid} }

1;
