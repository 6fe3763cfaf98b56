package Parley::Hurt;

# What the tests of load that hurts share: an attack in a process of its own, honest users beside it, and what the
# workers had to give for it.
#
#	my $before = honest($t, 40);		# so many turns, one after another: their times in ms
#	my $attack = attack(sub { … });		# begins now, ends with ->stop, or by itself: ->wait(20)
#	compare('slow clients', $before, honest($t, 40));	# figures, and a very generous bound
#	my $m = Parley::Hurt->measure($t);	# from here on
#	$m->peak; $m->bounded('a bomb', 64);	# MiB that a worker had more at its worst
#	$m->given_back('afterwards');		# descriptors, and memory within a margin
#	my $s = server(sub { my ($sock, $head, $body) = @_; … });	# one process for each connection; $s->url
#
# Attacks end by themselves when the test does, and never reach another machine.

use strict;
use warnings;

use Exporter 'import';
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Faults;

our @EXPORT = qw(attack compare honest record sent server well);

our $SLOW = 15;			# seconds: who waits longer for a plain turn is not served

# -- honest users --

sub honest {
	my ($t, $n, %opt) = @_;
	my @took;

	for my $i (1 .. $n) {
		my $since = time;
		my $r;
		# Told to come again, a client does; what that takes counts.
		for (1 .. 20) {
			$r = $t->chat($opt{user} // 'honest-' . $i % 7, "hello, this is turn $i");
			last if $r->{status} != 503 || !$r->{headers}{'retry-after'};
			note 'an honest turn was told to come again';
			sleep 0.2;
		}
		push @took, 1000 * (time - $since);
		$r->{status} == 200 && $r->{json}{status} eq 'success' or fail "an honest turn: $r->{status} $r->{body}";
		sleep $opt{pause} // 0.01;
	}
	return [sort { $a <=> $b } @took];
}

# Honest turns one after another for as long as the function says.
sub honest_while {
	my ($t, $going) = @_;
	my @took;

	do { push @took, @{honest($t, 1)} } while $going->();
	return [sort { $a <=> $b } @took];
}

sub at { my ($list, $part) = @_; return $list->[int($part * $#$list)] }

sub compare {
	my ($name, $before, $during) = @_;
	figure sprintf '%s: honest turns p50 %.0f ms, p99 %.0f ms; without p50 %.0f ms, p99 %.0f ms', $name,
	    map { at($_, 0.5), at($_, 0.99) } $during, $before;
	cmp_ok $during->[-1], '<', $SLOW * 1000, "$name: honest users are served";
}

sub well {
	my ($t, $pids, $name) = @_;
	is_deeply [sort $t->pids], [sort @$pids], "$name: no worker died";
	is $t->pool->sickness, '', '... or was ill';
}

# -- attacks --

sub attack {
	my ($code) = @_;
	pipe my $read, my $write or die "pipe: $!";
	my $pid = fork // die "fork: $!";

	if ($pid == 0) {
		CORE::close($write);
		# Not the handlers of the test, whose processes these would stop.
		$SIG{$_} = 'DEFAULT' for qw(TERM INT HUP);
		$SIG{PIPE} = 'IGNORE';
		# The other end closes when the test ends, however it does.
		our $over = IO::Select->new($read);
		eval { $code->(sub { $over->can_read(0) }); 1 } or print STDERR "# attack: $@";
		POSIX::_exit(0);
	}
	CORE::close($read);
	return bless { pid => $pid, alive => $write, owner => $$ }, 'Parley::Hurt::Attack';
}

# Bytes as far as they are taken; false: the other side has gone, or is full for so many seconds.
sub sent {
	my ($sock, $bytes, $seconds) = @_;
	local $SIG{PIPE} = 'IGNORE';
	my $at = 0;

	while ($at < length $bytes) {
		IO::Select->new($sock)->can_write($seconds // 10) or return 0;
		$at += syswrite($sock, $bytes, length($bytes) - $at, $at) // return 0;
	}
	return 1;
}

# A server on a free port: the function gets the connection, and head and body of the request.
sub server {
	my ($code) = @_;
	my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 4096, ReuseAddr => 1) or die "socket: $!";
	my $port = $listen->sockport;
	my $self = attack(sub {
		my ($over) = @_;
		local $SIG{CHLD} = 'IGNORE';
		while (!$over->()) {
			IO::Select->new($listen)->can_read(0.1) or next;
			my $sock = $listen->accept or next;
			my $pid = fork // next;
			next if $pid;
			CORE::close($listen);
			alarm 150;
			setsockopt $sock, IPPROTO_TCP, TCP_NODELAY, 1;
			eval { _request($sock, $code) };
			POSIX::_exit(0);
		}
	});
	$self->{url} = "http://127.0.0.1:$port";
	CORE::close($listen);
	return $self;
}

sub _request {
	my ($sock, $code) = @_;
	my $in = '';

	while (1) {
		while ($in !~ /\r\n\r\n/) {
			sysread $sock, $in, 65536, length $in or return;
		}
		$in =~ s/^(.*?\r\n)\r\n//s;
		my $head = $1;
		my ($n) = $head =~ /^content-length:\s*(\d+)/mi;
		while (length $in < ($n // 0)) {
			sysread $sock, $in, 65536, length $in or return;
		}
		# True: the connection is good for another.
		$code->($sock, $head, substr $in, 0, $n // 0, '') or return;
	}
}

# As a value in an address.
sub escaped {
	my ($text) = @_;
	utf8::encode($text);
	return $text =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger;
}

# -- FastCGI, byte by byte (FastCGI 1.0, section 3.3) --

sub record {
	my ($type, $id, $content, $padding) = @_;
	$padding //= 0;
	return pack('CCnnCx', 1, $type, $id, length $content, $padding) . $content . "\0" x $padding;
}

sub pairs {
	my (@pairs) = @_;
	return join '', map { my ($n, $v) = @$_; pack('NN', length($n) | 1 << 31, length($v) | 1 << 31) . $n . $v } @pairs;
}

sub begin { return record(1, $_[0] // 1, pack 'nCx5', 1, $_[1] // 0) }

# A whole request for /api/health.
sub health {
	my ($id) = @_;
	return begin($id) . record(4, $id, pairs([REQUEST_METHOD => 'GET'], [REQUEST_URI => '/api/health'])) . record(4, $id, '')
	    . record(5, $id, '');
}

sub peer {
	my ($path) = @_;
	return IO::Socket::UNIX->new(Peer => $path) // die "connect to $path: $!";
}

# -- what it costs the workers --

sub measure {
	my ($class, $t) = @_;
	my $self = bless { t => $t, pids => [$t->pids] }, $class;

	$self->restart;
	$self->{fds} = $self->_fds;
	return $self;
}

# The high-water mark begins anew at what is there now (proc(5), clear_refs).
sub restart {
	my ($self) = @_;
	for my $pid (@{$self->{pids}}) {
		open my $f, '>', "/proc/$pid/clear_refs" or next;
		print $f "5\n";
	}
	$self->{base} = $self->_status('VmRSS');
}

sub _status {
	my ($self, $name) = @_;
	my %kib;

	for my $pid (@{$self->{pids}}) {
		open my $f, '<', "/proc/$pid/status" or next;
		($kib{$pid}) = map { /^$name:\s+(\d+) kB/ } <$f>;
	}
	return \%kib;
}

sub _fds {
	my ($self) = @_;
	my $n = 0;

	for my $pid (@{$self->{pids}}) {
		opendir my $d, "/proc/$pid/fd" or next;
		$n += grep { !/^\./ } readdir $d;
	}
	return $n;
}

# KiB that the worker with the most had more at its worst.
sub peak {
	my ($self) = @_;
	my $high = $self->_status('VmHWM');
	my ($most) = sort { $b <=> $a } map { $high->{$_} - ($self->{base}{$_} // 0) } keys %$high;
	return $most // 0;
}

sub bounded {
	my ($self, $name, $mib) = @_;
	my $peak = $self->peak / 1024;

	figure sprintf '%s: a worker had %.1f MiB more at its worst', $name, $peak;
 SKIP: {
		skip 'a sanitizer has memory of its own', 1 if sanitized();
		cmp_ok $peak, '<', $mib, "$name: memory has a bound";
	}
}

# Afterwards: hardly a descriptor more, and not much memory.
sub given_back {
	my ($self, $name, $mib, $kept) = @_;
	my ($fds, $more);

	# Connections of the database stay open, and some of those to the model for the next turns.
	$kept = ($kept // 12) * @{$self->{pids}};
	wait_for(sub { ($fds = $self->_fds - $self->{fds}) <= $kept }, 15);
	cmp_ok $fds, '<=', $kept, "$name: descriptors come back";
	# Free memory is given back every few seconds.
	wait_for(sub {
		my $now = $self->_status('VmRSS');
		($more) = sort { $b <=> $a } map { ($now->{$_} - ($self->{base}{$_} // 0)) / 1024 } keys %$now;
		return ($more // 0) < ($mib // 48) / 2;
	}, 8);
	figure sprintf '%s: afterwards %d descriptors and %.1f MiB more', $name, $fds, $more // 0;
 SKIP: {
		skip 'a sanitizer has memory of its own', 1 if sanitized();
		cmp_ok $more // 0, '<', $mib // 48, "$name: so does memory";
	}
}

package Parley::Hurt::Attack;	## no critic (ProhibitMultiplePackages): it is of no use alone

sub url { $_[0]{url} }
sub pid { $_[0]{pid} }

sub running {
	my ($self) = @_;
	return 0 unless $self->{pid};
	return 1 if waitpid($self->{pid}, POSIX::WNOHANG()) == 0;
	delete $self->{pid};
	return 0;
}

# Whether it came to its end by itself in so many seconds.
sub wait {
	my ($self, $seconds) = @_;
	return Parley::Faults::wait_for(sub { !$self->running }, $seconds);
}

sub stop {
	my ($self) = @_;
	close delete $self->{alive} if $self->{alive};
	return if $self->wait(2);
	my $pid = delete $self->{pid};
	kill KILL => $pid;
	waitpid $pid, 0;
}

sub DESTROY {
	my ($self) = @_;
	return if $$ != $self->{owner};
	local ($?, $!, $@);
	$self->stop if $self->{pid};
}

1;
