package Parley::Client;

# One HTTP/1.1 request on a connection of its own, read as it comes.
#
#	my $r = Parley::Client->new($port, 'POST', '/api/chat', $bytes, { Accept => '...' });
#	$r->head;		# { status, reason, headers }: waits for the first line
#	$r->event;		# the next event of a stream, undef at its end
#	$r->response;		# { status, reason, headers, body, json }
#	$r->close;		# goes away in the middle
#
# Many can be in flight at once: start them all, then read one after another.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use JSON::XS ();
use Time::HiRes qw(time);

my $JSON = JSON::XS->new->utf8->allow_nonref;

sub new {
	my ($class, $port, $method, $path, $body, $headers, $seconds) = @_;
	my $self = $class->connect($port, $seconds);
	my %h = (Host => "127.0.0.1:$port", Connection => 'close', %{$headers // {}});

	$h{'Content-Length'} //= length $body if defined $body;
	my $text = "$method $path HTTP/1.1\r\n";
	for my $name (sort grep { defined $h{$_} } keys %h) {
		$text .= "$name: $_\r\n" for ref $h{$name} ? @{$h{$name}} : $h{$name};
	}
	$self->write($text . "\r\n" . ($body // ''));
	return $self;
}

# Only the connection: for those who write their own bytes.
sub connect {
	my ($class, $port, $seconds) = @_;
	my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 10)
	    or die "connect to port $port: $@";
	binmode $sock;
	return bless { sock => $sock, in => '', data => '', seconds => $seconds // 150 }, $class;
}

sub sock { $_[0]{sock} }

sub write {
	my ($self, $bytes) = @_;
	local $SIG{PIPE} = 'IGNORE';	# the answer may come before all is written
	my $at = 0;
	while ($at < length $bytes) {
		$at += syswrite($self->{sock}, $bytes, length($bytes) - $at, $at) // return;
	}
}

sub close {
	my ($self) = @_;
	CORE::close(delete $self->{sock}) if $self->{sock};
}

# All bytes until the server closes.
sub slurp {
	my ($self) = @_;
	1 while $self->_more;
	return delete $self->{in};
}

sub head {
	my ($self) = @_;
	return $self->{head} if $self->{head};

	while ($self->{in} !~ /\r\n\r\n/) {
		$self->_more or return $self->{head} = { status => 599, reason => 'no answer', headers => {} };
	}
	$self->{in} =~ s/^(.*?)\r\n\r\n//s;
	my ($first, @lines) = split /\r\n/, $1;
	my (undef, $status, $reason) = split / /, $first, 3;
	my %headers;
	for (@lines) {
		my ($name, $value) = /^([^:]+):\s*(.*?)\s*$/ or next;
		$name = lc $name;
		$headers{$name} = exists $headers{$name} ? "$headers{$name}, $value" : $value;
	}
	return $self->{head} = { status => $status, reason => $reason // '', headers => \%headers };
}

# The next event: { event, id, data } with data parsed; comments are counted in ->comments.
sub event {
	my ($self) = @_;
	$self->head;
	while (1) {
		# Not s///: that would copy all that is there for each event.
		while ((my $end = index $self->{data}, "\n\n") >= 0) {
			my %e = $self->_fields(substr $self->{data}, 0, $end);
			substr($self->{data}, 0, $end + 2) = '';
			return \%e if exists $e{data};
		}
		$self->_body or return undef;
	}
}

sub comments { $_[0]{comments} // 0 }

sub response {
	my ($self) = @_;
	my %r = %{$self->head};
	1 while $self->_body;
	$r{body} = delete $self->{data};
	$r{json} = eval { $JSON->decode($r{body}) } if ($r{headers}{'content-type'} // '') =~ m{^application/json};
	$r{cut} = 1 unless $self->{whole};
	$self->close;
	return \%r;
}

sub _fields {
	my ($self, $block) = @_;
	my (%e, @data);

	for (split /\r?\n/, $block) {
		if (/^:/) {
			$self->{comments}++;
		} elsif (/^data: ?(.*)$/s) {
			push @data, $1;
		} elsif (/^(event|id): ?(.*)$/s) {
			$e{$1} = $2;
		}
	}
	if (@data) {
		$e{text} = join "\n", @data;
		$e{data} = eval { $JSON->decode($e{text}) };
	}
	return %e;
}

# Moves what is there of the body to {data}, waits for more if nothing is; false at its end.
sub _body {
	my ($self) = @_;
	return 0 if $self->{ended};
	my $h = $self->head->{headers};

	if (($h->{'transfer-encoding'} // '') =~ /chunked/i) {
		return $self->_chunk;
	} elsif (defined $h->{'content-length'}) {
		$self->{left} //= $h->{'content-length'};
		if (length $self->{in} == 0 && $self->{left} > 0) {
			$self->_more or return $self->_end(0);
		}
		my $n = length $self->{in} < $self->{left} ? length $self->{in} : $self->{left};
		$self->{data} .= substr($self->{in}, 0, $n, '');
		$self->{left} -= $n;
		return $self->{left} > 0 || $self->_end(1);
	}
	if (length $self->{in} == 0 && !$self->_more) {
		return $self->_end(1);
	}
	$self->{data} .= $self->{in};
	$self->{in} = '';
	return 1;
}

sub _chunk {
	my ($self) = @_;

	my $end;
	while (($end = index $self->{in}, "\r\n") < 0) {
		$self->_more or return $self->_end(0);
	}
	my $n = hex +(substr($self->{in}, 0, $end) =~ /^([0-9a-fA-F]+)/)[0] // die 'no chunk';
	my $head = $end + 2;
	while (length $self->{in} < $head + $n + 2) {
		$self->_more or return $self->_end(0);
	}
	$self->{data} .= substr($self->{in}, $head, $n);
	substr($self->{in}, 0, $head + $n + 2) = '';
	return $n > 0 || $self->_end(1);
}

sub _end {
	my ($self, $whole) = @_;
	$self->{ended} = 1;
	$self->{whole} = $whole;
	return 0;
}

sub _more {
	my ($self) = @_;
	my $sock = $self->{sock} or return 0;
	IO::Select->new($sock)->can_read($self->{seconds}) or die "nothing to read for $self->{seconds} s\n";
	return sysread $sock, $self->{in}, 65536, length $self->{in};
}

1;
