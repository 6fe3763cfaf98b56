# Many sessions do to a few conversations whatever they like, at the same time; the rows make sense at every moment.
#
# Each session is a worker that may forget its turns at any statement, as if it had died, and may say a statement twice, as
# if the answer had been lost; and it is a client that begins, stops, repeats and deletes.
# PARLEY_SEED draws the same again, as far as the scheduler lets it; PARLEY_SECONDS goes on for longer.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Postgres;
use Parley::SQL;

my $SESSIONS = 8;
my $seconds = $ENV{PARLEY_SECONDS} // 5;
my $seed = $ENV{PARLEY_SEED} // int(time * 1000) % 1_000_000;
my $pg = Parley::Postgres->new(settings => { deadlock_timeout => '50ms' });

# A tool that has an effect or refuses, and a list of who has ever had which turn.
$pg->psql(q{
	CREATE TABLE public.effects (said text);
	CREATE TABLE public.owners (conversation_id uuid, turn int, fence bigint, session int);
	GRANT INSERT ON public.effects TO parley_tool;
	GRANT INSERT ON public.owners TO parley_worker;
	CREATE FUNCTION tools.act(said text) RETURNS json LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.effects (said) VALUES (act.said);
		PERFORM pg_sleep(random() * 0.02);
		IF random() < 0.2 THEN
			RAISE 'No.';
		END IF;
		RETURN to_json(act.said);
	END $$;
	GRANT EXECUTE ON FUNCTION tools.act TO parley_tool});
{
	my $db = Parley::SQL->new($pg);
	$db->talk($_, 'hello', 'Hi') for qw(ann ann bob cat);
}

# No snapshot may ever show one of these.
my $TURN_OF = 't.user_id = x.user_id AND t.conversation_id = x.conversation_id';
my %NEVER = (
	'a queued turn that nothing is before' => qq{SELECT x.user_id, x.turn FROM parley.turns x WHERE x.state = 'queued'
	    AND NOT EXISTS (SELECT FROM parley.turns t WHERE $TURN_OF AND t.turn < x.turn
	        AND t.state IN ('running', 'approval_required'))},
	'two live turns' => q{SELECT user_id, conversation_id FROM parley.turns WHERE state IN ('running', 'approval_required')
	    GROUP BY 1, 2 HAVING count(*) > 1},
	'a gap in the turns' => q{SELECT c.user_id, c.turns, count(t.turn), max(t.turn) FROM parley.conversations c
	    LEFT JOIN parley.turns t ON t.user_id = c.user_id AND t.conversation_id = c.id
	    GROUP BY c.user_id, c.id, c.turns HAVING c.turns <> count(t.turn) OR c.turns <> max(t.turn)},
	'a turn without its conversation' => q{SELECT t.user_id, t.turn FROM parley.turns t
	    WHERE NOT EXISTS (SELECT FROM parley.conversations c WHERE c.user_id = t.user_id AND c.id = t.conversation_id)},
	'a message without its turn' => qq{SELECT x.user_id, x.turn, x.run FROM parley.messages x
	    WHERE NOT EXISTS (SELECT FROM parley.turns t WHERE $TURN_OF AND t.turn = x.turn AND t.run >= x.run)},
	'a gap in the messages' => q{SELECT user_id, turn, run, array_agg(idx) FROM parley.messages
	    GROUP BY user_id, conversation_id, turn, run HAVING count(*) <> max(idx) + 1},
	'a turn without its message' => q{SELECT t.user_id, t.turn, t.run FROM parley.turns t
	    WHERE NOT EXISTS (SELECT FROM parley.messages m WHERE m.user_id = t.user_id
	        AND m.conversation_id = t.conversation_id AND m.turn = t.turn AND m.run = t.run AND m.idx = 0)},
	'calls counted wrong' => q{SELECT t.user_id, t.turn, t.state, t.open_calls, n.n FROM parley.turns t
	    CROSS JOIN LATERAL (SELECT count(*) AS n FROM parley.tool_calls c WHERE c.user_id = t.user_id
	        AND c.conversation_id = t.conversation_id AND c.turn = t.turn AND c.result IS NULL) n
	    WHERE t.open_calls <> n.n},
	'an effect that is not its result' => q{SELECT c.parameters ->> 'said' AS said, c.result::text, e.n
	    FROM parley.tool_calls c
	    CROSS JOIN LATERAL (SELECT count(*) AS n FROM public.effects e WHERE e.said = c.parameters ->> 'said') e
	    WHERE e.n <> CASE WHEN c.result IS NULL OR c.is_error THEN 0 ELSE 1 END},
	'two workers with one fence' => q{SELECT turn, fence, array_agg(DISTINCT session) FROM public.owners
	    GROUP BY conversation_id, turn, fence HAVING count(DISTINCT session) > 1},
);

sub wrong {
	my %wrong = map { ($_ => $pg->rows($NEVER{$_})) } keys %NEVER;
	delete @wrong{grep { !@{$wrong{$_}} } keys %wrong};
	return %wrong ? \%wrong : undef;
}

# -- one session --

sub pick { return $_[int rand @_] }
sub chance { return rand() < $_[0] }

# What is said twice has lost its answer the first time.
sub twice {
	my ($say) = @_;
	$say->() if chance(0.2);
	return $say->();
}

sub conversation {
	my ($s) = @_;
	return $s->{peek}->selectrow_hashref('SELECT user_id AS "user", id AS conversation_id, turns AS turn
	    FROM parley.conversations ORDER BY random() LIMIT 1');
}

# A turn is this session's: that is noted first, as it may be forgotten at once.
sub have {
	my ($s, $turn) = @_;
	$s->{db}->dbh->do('INSERT INTO public.owners VALUES (?, ?, ?, ?)', undef, @$turn{qw(conversation_id turn fence)}, $s->{n});
	push @{$s->{turns}}, $turn unless chance(0.03);
}

sub have_next {
	my ($s, $turn, $row) = @_;
	have($s, { user => $turn->{user}, conversation_id => $turn->{conversation_id}, turn => $row->{next_turn},
	    run => $row->{next_run}, fence => $row->{next_fence}, next => 1 }) if defined $row->{next_turn};
}

sub begin {
	my ($s) = @_;
	my $c = conversation($s);
	my @how = (conversation => $c->{conversation_id}, max_queued => 6,
	    new => Parley::SQL::uuid(), message => Parley::SQL::uuid(), on_busy => pick(("queue") x 30, qw(reject reject interrupt)),
	    chance(0.3) ? (key => 'key ' . int(rand 50), hash => 'h') : ());
	if (chance(0.1)) {
		eval { $s->{db}->begin($c->{user}, 'hello', @how) };
		push @how, again => 1;
	}
	my $turn = $s->{db}->begin($c->{user}, 'hello', @how);
	have($s, $turn) if $turn->{outcome} eq 'begun';
}

# A step further: a call, else another step or the end.
sub work {
	my ($s) = @_;
	my ($db, $turn) = ($s->{db}, $s->{turns}[0]);
	return unless $turn;
	if (my $call = shift @{$turn->{calls} // []}) {
		twice(sub { chance(0.9) ? $db->run($turn, @$call) : $db->answer($turn, @$call, '{"error":"no"}', 1) });
	} elsif (chance(0.4)) {
		my @calls = map { ['act', { said => "$s->{n} " . ++$s->{said} }] } 0 .. int rand 2;
		my $id = Parley::SQL::uuid();
		twice(sub { $db->step({ %$turn }, \@calls, id => $id) });
		$turn->{calls} = [map { [$turn->{next}, $_] } 0 .. $#calls];
		$turn->{next}++;
	} else {
		end($s, pick(qw(done done failed cancelled)));
	}
}

sub end {
	my ($s, $state) = @_;
	my $turn = shift @{$s->{turns}} or return;
	my ($content, @how) = (chance(0.7) ? 'Hi' : undef, id => Parley::SQL::uuid(), next => chance(0.7));
	have_next($s, $turn, twice(sub { $s->{db}->end_row($turn, $state, $content, @how) }));
}

sub look {
	my ($s) = @_;
	my @found = @{$s->{db}->rows('SELECT user_id AS "user", * FROM parley.turns_expired(10, 20, true)')};
	my $turn = @found ? pick(@found) : return;
	my $taken = $s->{db}->take($turn, lease => pick(1, 200), max_attempts => 4, next => chance(0.7));
	if ($taken->{outcome} eq 'begun') {
		# It may have stopped in the middle of its calls.
		my $calls = JSON::XS::decode_json($taken->{calls} // '[]');
		$taken->{calls} = [map { [$taken->{idx}, $_] } grep { !defined $calls->[$_]{result} } 0 .. $#$calls];
		have($s, $taken);
	}
	have_next($s, $turn, { map { ("next_$_" => $taken->{$_}) } qw(turn run fence) }) if $taken->{outcome} eq 'ended';
}

sub retry {
	my ($s) = @_;
	my $c = conversation($s);
	my $earlier = chance(0.2);
	$c->{turn} -= int rand 4 if $earlier;
	my $turn = $s->{db}->retry($c, key => 'again ' . int(rand 1000), supersede => $earlier);
	delete $turn->{calls};
	have($s, $turn) if $turn->{outcome} eq 'begun';
}

sub cancel {
	my ($s) = @_;
	my $c = conversation($s);
	$s->{db}->cancel({ %$c, turn => $c->{turn} - int rand 4 });
}

# Another takes its place.
sub delete_one {
	my ($s) = @_;
	my $c = conversation($s);
	$s->{db}->talk($c->{user}, 'hello', 'Hi');
	$s->{db}->one('SELECT parley.conversation_delete(?, ?)', @$c{qw(user conversation_id)});
}

# How often each is drawn.
my %MAY = (
	begin => [100, \&begin],
	work => [400, \&work],
	stop => [30, sub { end($_[0], pick('failed', 'cancelled')) }],
	look => [100, \&look],
	pulse => [100, sub { $_[0]{db}->pulse(pick(1, 200), @{$_[0]{turns}}) }],
	release => [30, sub { my $turn = pop @{$_[0]{turns}}; $_[0]{db}->release($turn) if $turn }],
	retry => [50, \&retry],
	cancel => [10, \&cancel],
	delete => [1, \&delete_one],
);
my @DRAWN = map { ($_) x $MAY{$_}[0] } sort keys %MAY;

# Refusals that are no fault: the turn is another's or gone, to be said again, two that waited for each other.
my %REFUSED = map { $_ => 1 } qw(PF001 PF002 PF003 40P01);

sub session {
	my ($n, $until) = @_;
	my $s = { n => $n, db => Parley::SQL->new($pg), peek => $pg->dbh('postgres'), turns => [], said => 0 };
	my %odd;
	srand $seed + $n;
	while (time < $until) {
		my $what = pick(@DRAWN);
		next if eval { $MAY{$what}[1]->($s); 1 };
		my $state = ref $@ ? $@->{state} : '';
		$odd{"$what: $@"}++ unless $REFUSED{$state};
		# It has lost this one, and notices it now; or later.
		shift @{$s->{turns}} if $what eq 'work' && $state =~ /^PF00[12]/ && chance(0.5);
	}
	print STDERR "# $_\n" for sort keys %odd;
	return !%odd;
}

my @pids = map {
	my $n = $_;
	my $pid = fork // die "fork: $!";
	POSIX::_exit(session($n, time + $seconds) ? 0 : 1) if $pid == 0;
	$pid;
} 1 .. $SESSIONS;

# -- meanwhile, and afterwards --

my ($wrong, $looks, $until) = (undef, 0, time + $seconds);
until ($wrong || time > $until) {
	$looks++;
	$wrong = wrong();
	sleep 0.1;
}
is $wrong, undef, "$looks looks in between have found nothing" or diag "seed $seed", explain $wrong;
for my $pid (@pids) {
	waitpid $pid, 0;
	is $?, 0, 'a session met no error that it may not meet' or diag "seed $seed";
}
is wrong(), undef, 'nor is anything wrong afterwards' or diag "seed $seed", explain wrong();
my $done = $pg->rows(q{SELECT state, count(*) AS n FROM parley.turns GROUP BY 1 ORDER BY 1});
note join ', ', map { "$_->{n} $_->{state}" } @$done;

# Whatever was left lying is found and brought to its end.
my $db = Parley::SQL->new($pg);
my $live = q{SELECT count(*) FROM parley.turns WHERE state IN ('queued', 'running')};
$pg->psql('UPDATE parley.live SET lease_until = now()');
for ($until = time + 10; $pg->one($live) && time < $until; sleep 0.05) {
	for my $turn (@{$db->rows('SELECT user_id AS "user", * FROM parley.turns_expired(1, 100, true)')}) {
		my $taken = $db->take($turn, max_attempts => 1000, next => 0);
		$db->end($taken, 'failed', undef, next => 0) if $taken->{outcome} eq 'begun';
	}
}
is $pg->one($live), 0, 'all that was left lying could be taken and ended';
is wrong(), undef, '... and the rows are in order';

done_testing;
