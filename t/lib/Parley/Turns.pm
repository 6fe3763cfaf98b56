package Parley::Turns;

# What is done with a turn after it was begun: waiting for it, following it, stopping and repeating it.
#
#	my ($c, $id, $n) = begun($t, 'alice', 'script:slow');	# a client that waits, its turn is stored
#	my @e = events($c);		# all of a stream to its end
#	names(@e);			# 'turn delta done': deltas in a row are one
#	said(@e);			# the text that a client has at the end
#	my $c = follow($t, 'alice', $id, $n, $last_id);	# GET …/events
#	my $r = turn($t, 'alice', $id, $n, 10);		# GET …/turns/n, ?wait=10
#	cancel($t, 'alice', $id, $n);
#	retry($t, 'alice', $id, $n, stream => 1, key => 'k');	# what of it is given; begin_retry does not wait
#	stream_ok('name', @e);		# all that a whole stream must be; returns the data of its last event
#	beside($t);	# one more worker, as another machine would have it
#
# The questions to the database: state_of($pg, $id, $n); expire($pg, $id): the lease of its turn is out;
# speaks($pg, $id): some of its text is stored.

use strict;
use warnings;

use Exporter 'import';
use JSON::XS ();
use Test::More;

use Parley::Contract;
use Parley::Process;
use Parley::Test;

our @EXPORT = qw(begin_retry begun beside cancel events expire follow names retry said speaks state_of stream_ok turn wait_for);

sub wait_for(&;$) { goto &Parley::Process::wait_for }

sub beside {
	my ($t, %opt) = @_;
	return Parley::Test->new(pg => $t->pg, model => $t->model, workers => 1, %opt);
}

sub begun {
	my ($t, $user, $message, %fields) = @_;
	my $stored = q{SELECT count(*) FROM parley.messages WHERE user_id = ? AND run = 1 AND idx = 0};
	my $before = $t->pg->one($stored, $user);
	my $c = $t->begin_chat($user, $message, %fields);

	wait_for { $t->pg->one($stored, $user) > $before } 10 or die 'the turn was not stored: ' . $t->log_text;
	my $row = $t->pg->rows(q{SELECT conversation_id, turn FROM parley.messages WHERE user_id = ? AND run = 1 AND idx = 0
	    ORDER BY created_at DESC LIMIT 1}, $user)->[0];
	return ($c, @$row{qw(conversation_id turn)});
}

sub events {
	my ($c) = @_;
	my @events;

	while (my $e = $c->event) {
		push @events, $e;
	}
	return @events;
}

sub names { return join(' ', map { $_->{event} } @_) =~ s/delta(?: delta)+/delta/gr }

sub said {
	my $text = '';
	for (@_) {
		$text = '' if $_->{event} =~ /^(?:reset|tool_result)$/;
		$text .= $_->{data}{text} if $_->{event} eq 'delta';
	}
	return $text;
}

sub _path { my ($id, $n) = @_; return "/api/conversations/$id/turns/$n" }

sub follow {
	my ($t, $user, $id, $n, $last) = @_;
	return $t->begin('GET', _path($id, $n) . '/events', undef, user => $user,
	    defined $last ? (headers => { 'Last-Event-ID' => $last }) : ());
}

sub turn {
	my ($t, $user, $id, $n, $wait) = @_;
	return $t->get(_path($id, $n) . (defined $wait ? "?wait=$wait" : ''), user => $user);
}

sub cancel {
	my ($t, $user, $id, $n) = @_;
	return $t->post(_path($id, $n) . '/cancel', undef, user => $user, headers => { 'Content-Length' => 0 });
}

sub begin_retry {
	my ($t, $user, $id, $n, %o) = @_;
	my $key = delete $o{key};
	my %headers = (defined $key ? ('Idempotency-Key' => $key) : (), %o ? () : ('Content-Length' => 0));

	$o{stream} = $o{stream} ? JSON::XS::true : JSON::XS::false if exists $o{stream};
	return $t->begin('POST', _path($id, $n) . '/retry', %o ? \%o : undef, user => $user, headers => \%headers);
}

sub retry { return begin_retry(@_)->response }

sub stream_ok {
	my ($name, @e) = @_;
	my (%seen, %calls);

	subtest $name => sub {
		is $e[0]{event}, 'turn', 'turn comes first';
		is scalar(grep { $_->{event} eq 'turn' } @e), 1, '... once';
		like $e[-1]{event} // '', qr/^(?:done|error)$/, 'there is an end';
		ok !(grep { !length($_->{id} // '') || $_->{id} =~ /\s/ } @e), 'every event has an id';
		ok !(grep { ref $_->{data} ne 'HASH' || $_->{text} =~ /\n/ } @e), 'one line of JSON in each';
		# To stand in the queue or to be asked is no progress, and a reset goes back.
		ok !(grep { %seen = () if $_->{event} eq 'reset'; $_->{event} !~ /^(?:queued|approval)$/ && $seen{$_->{id}}++ } @e[0 .. $#e - 1]),
		    'no place twice'
		    or diag join ' ', map { "$_->{event}=$_->{id}" } @e;
		event_ok($_) for @e;
		for (@e) {
			$calls{$_->{data}{id}} .= "$_->{event} " if $_->{event} =~ /^tool_/;
		}
		is_deeply [grep { $_ ne 'tool_call tool_result ' } values %calls], [], 'each call once, then its result';
		if ($e[-1]{event} eq 'done') {
			body_ok($e[-1]{data}, 'done');
			is_deeply [map { $_->{data} } grep { $_->{event} eq 'approval' } @e], $e[-1]{data}{approvals_required},
			    'the questions are those of done';
			ok said(@e) eq $e[-1]{data}{response}, 'the deltas are the response'
			    or diag said(@e) . "\n" . $e[-1]{data}{response};
		}
	};
	return $e[-1]{data};
}

my %fields = (
	turn => 'conversation_id message_id turn', queued => 'position', delta => 'text', reset => '',
	tool_call => 'id parameters tool_name', tool_result => 'duration_ms id is_error result',
	approval => 'expires_at id parameters question tool_name',
);

sub event_ok {
	my ($e) = @_;
	my $want = $fields{$e->{event}};

	return if $e->{event} =~ /^(?:done|error)$/;
	my $have = join ' ', sort keys %{$e->{data}};
	# One line for what may come a thousand times.
	$have eq ($want // 'nothing') or fail "$e->{event} has: $have";
	$e->{event} ne 'queued' || $e->{data}{position} =~ /^[1-9]\d*$/ or fail "position $e->{data}{position}";
	$e->{event} ne 'delta' || length $e->{data}{text} or fail 'a delta without text';
}

sub state_of {
	my ($pg, $id, $n) = @_;
	return $pg->one('SELECT state FROM parley.turns WHERE conversation_id = ? AND turn = ?', $id, $n) // 'none';
}

sub expire {
	my ($pg, $id) = @_;
	wait_for { $pg->one(q{UPDATE parley.live SET lease_until = now() - interval '1 s' WHERE conversation_id = ?
	    AND lease_until > '-infinity' RETURNING 1}, $id) } 10 or die 'it never had a lease';
}

sub speaks {
	my ($pg, $id) = @_;
	return $pg->one(q{SELECT partial FROM parley.live WHERE conversation_id = ? AND partial <> ''}, $id);
}

1;
