package Parley::Proxy;

# A network that misbehaves between workers and PostgreSQL: a process that passes bytes on, until told otherwise.
#
#	my $pg = Parley::Postgres->new(port => 1);
#	my $proxy = Parley::Proxy->new($pg->port);
#	$proxy->url('parley_worker');		# a database.url that leads through it
#	$proxy->cut_after('turn_end');		# the next statement that holds this text reaches the server and is done;
#						# its answer is lost, with the connection
#	$proxy->cut_before('turn_end', 2);	# the next two do not reach it
#	$proxy->hits;				# how many were cut
#	$proxy->stall;				# nothing passes, nothing is said; new connections stand still too
#	$proxy->refuse;				# all connections are closed, new ones at once
#	$proxy->drip;				# answers come byte by byte
#	$proxy->pass;				# as at first; what stood still goes on
#
# It reads as little of the protocol as it can: the client's statements are searched for
# the text, the server's messages are counted to see the end of an answer (ReadyForQuery).

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use JSON::XS ();
use POSIX ();
use Socket qw(:DEFAULT IPPROTO_TCP TCP_NODELAY);

sub new {
	my ($class, $server_port) = @_;
	my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 512, ReuseAddr => 1) or die "socket: $!";
	socketpair my $ours, my $its, AF_UNIX, SOCK_STREAM, PF_UNSPEC or die "socketpair: $!";
	my $pid = fork // die "fork: $!";

	if ($pid == 0) {
		CORE::close($ours);
		$SIG{PIPE} = 'IGNORE';
		$SIG{TERM} = 'DEFAULT';
		my $proxy = bless { listen => $listen, control => $its, server => $server_port,
		    mode => 'pass', left => 0, hits => 0, conns => {} }, $class;
		eval { $proxy->_serve; 1 } or print STDERR "# proxy: $@";
		POSIX::_exit(0);
	}
	CORE::close($its);
	$ours->autoflush(1);
	return bless { owner_pid => $$, pid => $pid, control => $ours, port => $listen->sockport }, $class;
}

sub port { $_[0]{port} }
sub url { return sprintf 'postgresql://%s@127.0.0.1:%d/%s', $_[1], $_[0]{port}, $_[2] // 'parley' }

sub pass { $_[0]->_tell(mode => 'pass') }
sub stall { $_[0]->_tell(mode => 'stall') }
sub drip { $_[0]->_tell(mode => 'drip') }
sub refuse { $_[0]->_tell(mode => 'refuse') }
sub cut_after { $_[0]->_tell(mode => 'pass', cut => 'after', text => $_[1], left => $_[2] // 1) }
sub cut_before { $_[0]->_tell(mode => 'pass', cut => 'before', text => $_[1], left => $_[2] // 1) }
sub hits { $_[0]->_tell->{hits} }

sub _tell {
	my ($self, %order) = @_;
	local $SIG{PIPE} = 'IGNORE';
	print { $self->{control} } JSON::XS::encode_json(\%order), "\n";
	my $line = readline $self->{control};
	return JSON::XS::decode_json($line // die "the proxy has ended\n");
}

sub stop {
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;
	CORE::close(delete $self->{control});		# that ends it
	waitpid $pid, 0;
}

sub DESTROY {
	my ($self) = @_;
	return if !$self->{owner_pid} || $$ != $self->{owner_pid};
	local ($?, $!, $@);
	$self->stop;
}

# -- the process itself: no waiting but in select --

sub _serve {
	my ($self) = @_;

	while (1) {
		my $read = IO::Select->new($self->{control}, $self->{listen});
		if ($self->{mode} ne 'stall') {
			# Who is not read from while the other side is full cannot fill our memory.
			$read->add($_->{sock}) for grep { length $_->{peer}{out} < 1 << 20 } values %{$self->{conns}};
		}
		my $write = IO::Select->new(map { $_->{sock} } grep { length $_->{out} } values %{$self->{conns}});
		my ($r, $w) = IO::Select->select($read, $write, undef, 5);
		for my $sock (@{$r // []}) {
			if ($sock == $self->{control}) {
				$self->_obey or return;
			} elsif ($sock == $self->{listen}) {
				$self->_accept;
			} elsif (my $end = $self->{conns}{$sock}) {
				$self->_read($end);
			}
		}
		for my $sock (@{$w // []}) {
			my $end = $self->{conns}{$sock} or next;
			my $n = syswrite $sock, $end->{out}, $self->{mode} eq 'drip' && $end->{is_client} ? 1 : length $end->{out};
			substr($end->{out}, 0, $n) = '' if $n;
			$self->_close($end) if !defined $n && !$!{EAGAIN};
		}
	}
}

sub _obey {
	my ($self) = @_;
	my $line = readline $self->{control} // return 0;
	my $order = JSON::XS::decode_json($line);

	@$self{keys %$order} = values %$order;
	if ($self->{mode} eq 'refuse') {
		my @clients = grep { $_->{is_client} } values %{$self->{conns}};
		$self->_close($_) for @clients;
	}
	$self->{hits} = 0 if exists $order->{cut};
	syswrite $self->{control}, JSON::XS::encode_json({ hits => $self->{hits} }) . "\n";
	return 1;
}

sub _accept {
	my ($self) = @_;
	my $sock = $self->{listen}->accept or return;
	return CORE::close($sock) if $self->{mode} eq 'refuse';
	my $up = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{server}) or return CORE::close($sock);
	setsockopt $sock, IPPROTO_TCP, TCP_NODELAY, 1;
	my ($c, $s) = map { $_->blocking(0); { sock => $_, out => '' } } $sock, $up;

	@$c{qw(peer is_client tail)} = ($s, 1, '');
	$s->{peer} = $c;
	$self->{conns}{$_->{sock}} = $_ for $c, $s;
}

sub _close {
	my ($self, $end) = @_;
	my @both = ($end, $end->{peer} // ());
	for my $e (@both) {
		delete $self->{conns}{$e->{sock}};
		delete $e->{peer};
		CORE::close($e->{sock});
	}
}

sub _read {
	my ($self, $end) = @_;
	my $n = sysread $end->{sock}, my $bytes, 65536;

	return if !defined $n && $!{EAGAIN};
	return $self->_close($end) unless $n;
	return $self->_swallow($end, $bytes) if $end->{doomed};
	if ($end->{is_client} && $self->{left} > 0) {
		# The text may come in two pieces.
		my $seen = $end->{tail} . $bytes;
		$end->{tail} = substr $seen, -40;
		if (index($seen, $self->{text}) >= 0) {
			$self->{left}--;
			$end->{tail} = '';
			if ($self->{cut} eq 'before') {
				$self->{hits}++;
				return $self->_close($end);
			}
			@{$end->{peer}}{qw(doomed answer)} = (1, '');
		}
	}
	$end->{peer}{out} .= $bytes;
}

# An answer that will not arrive: a byte of type and four of length for each message; Z is the end of it.
sub _swallow {
	my ($self, $end, $bytes) = @_;

	$end->{answer} .= $bytes;
	while (length $end->{answer} >= 5) {
		my ($type, $length) = unpack 'aN', $end->{answer};
		last if length $end->{answer} < 1 + $length;
		substr($end->{answer}, 0, 1 + $length) = '';
		next if $type ne 'Z';
		$self->{hits}++;
		return $self->_close($end);
	}
}

1;
