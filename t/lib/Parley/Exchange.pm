package Parley::Exchange;

# One HTTP/1.1 request that never waits, for those who have many at once.
#
#	my $x = Parley::Exchange->new($port, 'POST', '/api/chat', $bytes, { Accept => … });
#	$x->sock;		# for IO::Select
#	$x->read;		# takes what has come; false once it is over
#	$x->events;		# events of a stream that are new since the last call: ({ event, id, data }, …)
#	$x->whole;		# it ended as HTTP says, not by a connection that broke
#	$x->status; $x->headers; $x->json;
#
# Parley::Client is the same for those who wait.

use strict;
use warnings;

use IO::Socket::INET;
use JSON::XS ();
use Time::HiRes qw(time);

my $JSON = JSON::XS->new->utf8->allow_nonref;

sub new {
	my ($class, $port, $method, $path, $body, $headers) = @_;
	my $self = bless { in => '', body => '', at => 0, began => time, heard => time }, $class;
	my %h = (Host => "127.0.0.1:$port", Connection => 'close', %{$headers // {}});

	$h{'Content-Length'} = length $body if defined $body;
	my $text = join '', "$method $path HTTP/1.1\r\n", map({ "$_: $h{$_}\r\n" } sort keys %h), "\r\n", $body // '';
	$self->{sock} = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 5);
	if (!$self->{sock}) {
		$self->{over} = 1;
		return $self;
	}
	binmode $self->{sock};
	# A request is small: the socket takes it whole.
	local $SIG{PIPE} = 'IGNORE';
	syswrite $self->{sock}, $text;
	$self->{sock}->blocking(0);
	return $self;
}

sub sock { $_[0]{sock} }
sub over { $_[0]{over} }
sub whole { $_[0]{whole} }
sub status { $_[0]{status} // 0 }
sub headers { $_[0]{headers} // {} }
sub heard { $_[0]{heard} }
sub is_stream { ($_[0]->headers->{'content-type'} // '') =~ m{^text/event-stream} }

sub json {
	my ($self) = @_;
	return undef unless $self->{whole} && ($self->headers->{'content-type'} // '') =~ m{^application/json};
	return $self->{json} //= eval { $JSON->decode($self->{body}) };
}

sub close {
	my ($self) = @_;
	CORE::close(delete $self->{sock}) if $self->{sock};
	$self->{over} = 1;
}

sub read {
	my ($self) = @_;
	return 0 if $self->{over};
	my $n = sysread $self->{sock}, $self->{in}, 65536, length $self->{in};

	return 1 if !defined $n && $!{EAGAIN};
	$self->{heard} = time;
	$self->_head unless $self->{headers};
	$self->_body($n ? 0 : 1) if $self->{headers};
	$self->close if !$n || $self->{whole};
	return !$self->{over};
}

sub events {
	my ($self) = @_;
	my @events;

	return unless $self->is_stream;
	while ((my $end = index $self->{body}, "\n\n", $self->{at}) >= 0) {
		my $block = substr $self->{body}, $self->{at}, $end - $self->{at};
		my %e;
		$self->{at} = $end + 2;
		for (split /\r?\n/, $block) {
			$e{$1} = $2 if /^(event|id|data): ?(.*)$/s;
		}
		next unless exists $e{data};
		$e{data} = eval { $JSON->decode($e{data}) };
		push @events, \%e;
	}
	substr($self->{body}, 0, $self->{at}) = '';
	$self->{at} = 0;
	return @events;
}

sub _head {
	my ($self) = @_;
	$self->{in} =~ s/^(.*?)\r\n\r\n//s or return;
	my ($first, @lines) = split /\r\n/, $1;

	$self->{status} = (split / /, $first)[1];
	$self->{headers} = { map { /^([^:]+):\s*(.*?)\s*$/ ? (lc $1 => $2) : () } @lines };
	$self->{chunked} = ($self->{headers}{'transfer-encoding'} // '') =~ /chunked/i;
	$self->{left} = $self->{headers}{'content-length'};
	$self->{left} = 0 if $self->{status} == 204;
}

# Moves what is there to {body}; at the end of the connection only a body without a length is whole.
sub _body {
	my ($self, $ended) = @_;

	if ($self->{chunked}) {
		while ($self->{in} =~ /^([0-9a-fA-F]+)[^\r\n]*\r\n/) {
			my ($n, $head) = (hex $1, $+[0]);
			last if length $self->{in} < $head + $n + 2;
			$self->{body} .= substr $self->{in}, $head, $n;
			substr($self->{in}, 0, $head + $n + 2) = '';
			return $self->{whole} = 1 if $n == 0;
		}
		return;
	}
	$self->{body} .= $self->{in};
	$self->{in} = '';
	$self->{whole} = defined $self->{left} ? length $self->{body} >= $self->{left} : $ended;
}

1;
