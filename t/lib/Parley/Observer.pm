package Parley::Observer;

# Looks at Parley from outside: many clients at once, each as good as a client should
# be, and a record of all that they were told.
#
#	my $o = Parley::Observer->new($t);	# $t: a Parley::Test; or new($t, patience => 20)
#	my $m = $o->say(user => 'alice', text => 'Hello', stream => 1, key => 'k-1');
#	$o->run(sub { $m->{end} }, 10);		# false when the seconds are over
#	$o->finish(30);				# until every message has its end; returns those that have none
#	is_deeply [$o->compare($pg)], [];	# what was told against the rows, and the rows against Parley::Audit
#
# What say() takes: user, text (each its own: messages are found by it), stream, key
# (Idempotency-Key), conversation_id, on_busy, drop (the phone sleeps: the connection is closed after so many
# events, and the client comes back).
#
# A good client: 202 means follow Location; a stream that ends without done or error means
# attach again with Last-Event-ID; a connection that breaks, or a 5xx that names no turn, means the same POST
# again with the same key, if there is one.  Without a key nothing is ever sent twice.
#
# A message becomes { end => 'done', 'error', 'refused' or 'unknown', body, text, turn, conversation_id, … }.
# unknown: no key, and the connection broke before anything was acknowledged.

use strict;
use warnings;

use IO::Select;
use JSON::XS ();
use Time::HiRes qw(time);

use Parley::Audit;
use Parley::Exchange;

my $JSON = JSON::XS->new->utf8->canonical;

sub new {
	my ($class, $t, %opt) = @_;
	return bless { t => $t, patience => 150, messages => [], open => {}, later => [], count => {}, wrong => [], %opt },
	    $class;
}

sub messages { @{$_[0]{messages}} }
sub waiting { grep { !$_->{end} } @{$_[0]{messages}} }
sub ended { my ($self, $how) = @_; return grep { ($_->{end} // '') eq $how } @{$self->{messages}} }
sub count { $_[0]{count} }		# of what happened: posts, attached, broken, …

sub say {
	my ($self, %m) = @_;
	my $m = { number => scalar @{$self->{messages}}, told => [], posts => 0, text_so_far => '', began => time, %m };

	push @{$self->{messages}}, $m;
	$self->_post($m);
	return $m;
}

# Serves all connections until the function says so, or for so many seconds.
sub run {
	my ($self, $until, $seconds) = @_;
	my $end = time + $seconds;

	while (1) {
		return 1 if $until && $until->();
		return 0 if time > $end;
		$self->_round;
	}
}

sub finish {
	my ($self, $seconds) = @_;
	$self->run(sub { !$self->waiting }, $seconds);
	return $self->waiting;
}

sub slowest {
	my ($self) = @_;
	my ($max) = sort { $b <=> $a } map { $_->{took} // 0 } $self->messages;
	return $max // 0;
}

# What happened, in one line.
sub summary {
	my ($self) = @_;
	my %n = %{$self->{count}};
	$n{"end $_->{end}" . ($_->{end} eq 'done' ? '' : ' ' . ($_->{code} // ''))}++ for grep { $_->{end} } $self->messages;
	return scalar($self->messages) . ' messages; ' . join ', ', map { "$_: $n{$_}" } sort keys %n;
}

# -- how it is asked --

sub _post {
	my ($self, $m) = @_;
	my %body = (message => $m->{text});

	$body{$_} = $m->{$_} for grep { defined $m->{$_} } qw(on_busy);
	$body{conversation_id} = $m->{asked_id} //= $m->{conversation_id} if $m->{asked_id} // $m->{conversation_id};
	$body{stream} = JSON::XS::true if $m->{stream};
	$m->{posts}++;
	$self->_ask($m, 'POST', '/api/chat', $JSON->encode(\%body),
	    { 'Content-Type' => 'application/json', defined $m->{key} ? ('Idempotency-Key' => $m->{key}) : () });
}

sub _ask {
	my ($self, $m, $method, $path, $body, $headers) = @_;
	my $x = Parley::Exchange->new($self->{t}->nginx->port, $method, $path, $body,
	    { Authorization => 'Bearer ' . ($m->{token} //= $self->{t}->token($m->{user})), %{$headers // {}} });

	$self->{count}{$method}++;
	push @{$m->{history}}, $method;
	$m->{method} = $method;
	$m->{x} = $x;
	return $self->_over($m) if $x->over;
	$self->{open}{fileno $x->sock} = $m;
}

sub _turn_path { my ($m) = @_; return "/api/conversations/$m->{conversation_id}/turns/$m->{turn}" }

# On a stream again after the last event that came; or the turn's own address.
sub _follow {
	my ($self, $m, $location) = @_;
	if ($m->{stream}) {
		$self->{count}{attached}++;
		return $self->_ask($m, 'GET', _turn_path($m) . '/events', undef, { Accept => 'text/event-stream',
		    defined $m->{last} ? ('Last-Event-ID' => $m->{last}) : () });
	}
	$self->_ask($m, 'GET', $location // _turn_path($m) . '?wait=30');
}

sub _later {
	my ($self, $seconds, $code) = @_;
	push @{$self->{later}}, [time + $seconds, $code];
}

# -- what comes back --

sub _round {
	my ($self) = @_;
	my $now = time;
	my @due = grep { $_->[0] <= $now } @{$self->{later}};

	@{$self->{later}} = grep { $_->[0] > $now } @{$self->{later}};
	$_->[1]->() for @due;
	my @socks = map { $_->{x}->sock } values %{$self->{open}};
	for my $sock (IO::Select->new(@socks)->can_read(0.02)) {
		my $m = $self->{open}{fileno $sock} or next;
		my ($x, $fd) = ($m->{x}, fileno $sock);
		$x->read;
		$self->_event($m, $_) for $x->events;
		if ($m->{drop} && ($m->{events} // 0) >= $m->{drop} && !$m->{end} && $x->is_stream) {
			delete $m->{drop};
			$self->{count}{dropped}++;
			$x->close;
		}
		next unless $x->over;
		delete $self->{open}{$fd};
		$self->_over($m) unless $m->{end};
	}
	for my $m (grep { time - $_->{x}->heard > $self->{patience} } values %{$self->{open}}) {
		delete $self->{open}{fileno $m->{x}->sock};
		$m->{x}->close;
		$self->_wrong($m, "silent for $self->{patience} s");
		$self->_over($m);
	}
}

# What it is, and all that happened to it.
sub _name {
	my ($m) = @_;
	return "message $m->{number} (" . substr($m->{text}, 0, 60) . ($m->{stream} ? ', streamed'
	    : '') . ": @{$m->{history} // []})";
}

sub _wrong {
	my ($self, $m, $text) = @_;
	push @{$self->{wrong}}, _name($m) . ": $text";
}

sub _acknowledged {
	my ($self, $m, $data) = @_;
	my ($id, $turn) = @$data{qw(conversation_id turn)};

	if (!defined $id || !defined $turn) {
		$self->_wrong($m, 'acknowledged without conversation and turn: ' . $JSON->encode($data));
	} elsif (!$m->{turn}) {
		@$m{qw(conversation_id turn acknowledged)} = ($id, $turn, time);
	} elsif ("$id $turn" ne "$m->{conversation_id} $m->{turn}") {
		$self->_wrong($m, "was turn $m->{turn} of $m->{conversation_id}, now is $turn of $id");
	}
}

# What a stream's client does with each event.
sub _event {
	my ($self, $m, $e) = @_;
	my $name = $e->{event} // 'message';

	$m->{events}++;
	$m->{last} = $e->{id} if defined $e->{id};
	if ($m->{end}) {
		$self->_wrong($m, "$name after the end");
	} elsif ($name eq 'turn') {
		$self->_acknowledged($m, $e->{data});
	} elsif ($name eq 'delta') {
		$m->{text_so_far} .= $e->{data}{text};
	} elsif ($name eq 'reset' || $name eq 'tool_result') {
		$self->{count}{$name}++;
		$m->{text_so_far} = '';
	} elsif ($name eq 'done' || $name eq 'error') {
		$self->_end($m, $name, $e->{data});
	}
}

sub _end {
	my ($self, $m, $how, $body) = @_;

	@$m{qw(end body ended)} = ($how, $body, time);
	push @{$m->{history}}, $how;
	$m->{took} = $m->{ended} - $m->{began};
	$m->{code} = $body->{error_code} if ref $body eq 'HASH';
	return if $how ne 'done' && $how ne 'error';
	$self->_acknowledged($m, $body) if $how eq 'done' || defined $body->{turn};
	$self->_wrong($m, "the deltas give \"$m->{text_so_far}\", response is \"$body->{response}\"")
	    if $how eq 'done' && $m->{stream} && $m->{events} && $m->{text_so_far} ne $body->{response};
}

# A connection is over: with an answer, or without.
sub _over {
	my ($self, $m) = @_;
	my $x = $m->{x};
	my $j = $x->json;

	push @{$m->{history}}, ($x->status || 'nothing') . ($x->whole ? '' : ' broken') . (ref $j eq 'HASH' ? " $j->{status}"
	    : '');
	return $self->_again($m, $x) if !$x->whole || $x->is_stream || ref $j ne 'HASH' || !defined $j->{status};
	$self->_acknowledged($m, $j) if $x->status == 200 && defined $j->{turn} || $x->status == 202;
	if ($j->{status} eq 'running' || $j->{status} eq 'queued') {
		$self->{count}{"$m->{method} " . $x->status . " $j->{status}"}++;
		return $self->_follow($m, $x->headers->{location});
	}
	if ($j->{status} ne 'error') {
		$self->_wrong($m, $x->status . " $j->{status}") if $x->status != 200;
		return $self->_end($m, 'done', $j);
	}

	# A turn that failed is read with 200; another status then only says that it cannot be read now.
	my $ours = $m->{method} eq 'GET' ? $x->status == 200 : defined $j->{turn} && $x->status !~ /^(409|429)$/;
	return $self->_end($m, 'error', $j) if $ours;
	$self->_refused($m, $x, $j);
}

sub _refused {
	my ($self, $m, $x, $j) = @_;
	my $name = $x->status . ' ' . ($j->{error_code} // '?');

	$self->{count}{"$m->{method} $name"}++;
	$self->_wrong($m, "$name without Retry-After") if $x->status =~ /^(503|429)$/ && !$x->headers->{'retry-after'};
	push @{$m->{refusals}}, [$x->status, $j->{error_code}, time - $x->{began}];
	return $self->_again($m, $x) if $x->status >= 500;
	$self->_wrong($m, "$name for a message that was acknowledged") if $m->{turn};
	$self->_end($m, 'refused', $j);
}

# It broke, or the server could not: what a good client does next.
sub _again {
	my ($self, $m, $x) = @_;
	my $wait = $x->headers->{'retry-after'} // 0;

	$self->{count}{broken}++ unless $x->whole;
	$wait = $wait > 1 ? 1 : $wait > 0.1 ? $wait : 0.1;
	if ($m->{turn}) {
		$self->_later($wait, sub { $self->_follow($m) });
	} elsif (defined $m->{key}) {
		$self->_later($wait, sub { $self->_post($m) });
	} else {
		# 503 says that nothing was stored; anything else leaves it open.
		$self->_end($m, $x->status == 503 ? 'refused' : 'unknown', $x->json // {});
	}
}

# -- what the rows say --

sub compare {
	my ($self, $pg) = @_;
	my @bad = @{$self->{wrong}};
	my %rows;

	my $said = $pg->rows(q{SELECT m.user_id, m.content, t.conversation_id, t.turn, t.state, t.error_code,
	    (SELECT a.content FROM parley.messages a
	      WHERE (a.user_id, a.conversation_id, a.turn, a.run) = (t.user_id, t.conversation_id, t.turn, t.run)
	        AND a.role = 'assistant' ORDER BY a.idx DESC LIMIT 1) AS answer
	    FROM parley.messages m JOIN parley.turns t USING (user_id, conversation_id, turn)
	   WHERE m.role = 'user' AND m.run = 1});
	push @{$rows{"$_->{user_id} $_->{content}"}}, $_ for @$said;
	for my $m ($self->messages) {
		my $stored = $rows{"$m->{user} $m->{text}"} // [];
		push @bad, map { _name($m) . ": $_" } _compare($m, @$stored);
	}
	my @shown = splice @bad, 0, 12;
	push @shown, '... and ' . @bad . ' more' if @bad;
	return @shown, Parley::Audit::complaints($pg);
}

sub _compare {
	my ($m, @stored) = @_;
	my $end = $m->{end} // 'none';
	my $twice = defined $m->{key} ? 1 : $m->{posts};

	return 'acknowledged and not there' if $m->{turn} && !@stored;
	return 'stored ' . @stored . ' times' if @stored > $twice;
	return "refused ($m->{code}) and there" if $end eq 'refused' && @stored && ($m->{code} // '') ne 'database_unavailable';
	return unless $m->{turn};
	my $row = $stored[0];
	return "told turn $m->{turn}, is $row->{turn}"
	    if "$m->{conversation_id} $m->{turn}" ne "$row->{conversation_id} $row->{turn}";
	return "acknowledged, and its client never heard the end ($row->{state})" if $end eq 'none';
	if ($end eq 'error') {
		return "told $m->{code}, is $row->{state} " . ($row->{error_code} // '')
		    if $row->{state} ne 'failed' || $row->{error_code} ne $m->{code};
		return;
	}
	my $state = { success => 'done', cancelled => 'cancelled',
	    approval_required => 'approval_required' }->{$m->{body}{status}} // '?';
	return "told $m->{body}{status}, is $row->{state}" if $state ne $row->{state};
	return "told \"$m->{body}{response}\", is \"" . ($row->{answer} // '') . '"'
	    if $m->{body}{response} ne ($row->{answer} // '');
	return;
}

1;
