# Tokens in a day and turns in a minute, as the database keeps them: reserved before, settled after by whoever ends
# a turn, exact when a hundred come at once.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes qw(sleep time);
use lib "$FindBin::Bin/lib";

use Parley::Postgres;
use Parley::SQL;

# It is about days: not over the end of one.
sleep 31 if time % 86400 > 86370;

my $pg = Parley::Postgres->new;
my $db = Parley::SQL->new($pg);

# One message of this size is 8 + 2 tokens; a turn without history reserves 110.
my $TEXT = 'x' x 8;
my %day = (per_day => 1000, call_tokens => 100);
my $EACH = 110;

sub failed { Parley::SQL::failed(@_) }

# "reserved spent estimated" of today, or of another day; '' where there is no row.
sub usage {
	my ($user, $ago) = @_;
	my ($row) = @{$pg->rows(q{SELECT reserved, spent, estimated FROM parley.usage
		WHERE user_id = ? AND day = (now() AT TIME ZONE 'UTC')::date - ?::int}, $user, $ago // 0)};
	return $row ? "@$row{qw(reserved spent estimated)}" : '';
}
sub turn_row { return $pg->rows('SELECT * FROM parley.turns WHERE conversation_id = ? AND turn = ?',
    @{$_[0]}{qw(conversation_id turn)})->[0] }
sub in { return (conversation => $_[0]{conversation_id}) }
sub to_midnight { return (86400 - time % 86400) * 1000 }

# A refusal of the second look, where the first one let it pass: outcome and wait.
sub refused {
	my ($code) = @_;
	my $r = eval { $code->() };
	return $r ? (@$r{qw(outcome budget_ms)}) : (ref $@ && $@->{state} eq 'PF004' ? ($@->{message} =~ /(rate_limited|budget_\w+)/) : $@);
}

# The turn before an end of the day: as if it had been asked for so many days ago.
sub age {
	my ($user, $days) = @_;
	$pg->psql("UPDATE parley.usage SET day = day - $days WHERE user_id = '$user';
	    UPDATE parley.turns SET reserved_on = reserved_on - $days WHERE user_id = '$user'");
}

# So many statements of turn_begin at once, each on a connection of its own; how often each outcome came.
sub crowd {
	my ($user, $n, @options) = @_;
	my (@dbh, @sth, %outcome);
	for my $i (1 .. $n) {
		my $dbh = $pg->dbh('parley_worker');
		$dbh->{PrintError} = 0;
		my $sth = $dbh->prepare($Parley::SQL::BEGIN, { pg_async => 1 });
		push @dbh, $dbh;
		push @sth, $sth;
	}
	$_->execute(Parley::SQL::begin_bind($user, $TEXT, @options)) for @sth;
	for my $i (0 .. $#sth) {
		my $ok = eval { $dbh[$i]->pg_result; 1 };
		$outcome{$ok ? $sth[$i]->fetchall_arrayref({})->[-1]{outcome} : $dbh[$i]->state}++;
	}
	return \%outcome;
}

subtest 'no limits, no rows' => sub {
	my $turn = $db->talk('none', $TEXT, 'Hi');
	is usage('none'), '', 'no day';
	is $pg->one('SELECT count(*) FROM parley.pace'), 0, 'no pace';
	is_deeply [@{turn_row($turn)}{qw(reserved reserved_on)}], [undef, undef], 'nothing with the turn';
};

subtest 'reserved, and settled' => sub {
	my $turn = $db->begin('ann', $TEXT, %day);
	is usage('ann'), "$EACH 0 0", 'what the call may need is set aside';
	is turn_row($turn)->{reserved}, $EACH, '... and the turn knows it';
	my $at = $db->end($turn, 'done', 'Hi', input => 70, output => 7);
	is usage('ann'), '0 77 0', 'what it has used is spent';
	is $db->end($turn, 'done', 'Hi', input => 70, output => 7), $at, 'said again';
	is usage('ann'), '0 77 0', '... it is spent once';
	is failed(sub { $db->end($turn, 'failed', undef) }), 'PF001', 'another end';
	is usage('ann'), '0 77 0', '... changes nothing';

	my $next = $db->begin('ann', $TEXT, in($turn), %day);
	my $history = turn_row($turn)->{tokens};
	is usage('ann'), $EACH + $history . ' 77 0', 'the history counts';
	$db->end($next, 'done', 'Hi', input => 40, output => 4, estimated => 1);
	is usage('ann'), '0 121 44', 'what nobody has counted is marked';
	is turn_row($next)->{estimated}, 1, '... with the turn as well';
	is $pg->one(q{SELECT sum(input_tokens + output_tokens) FROM parley.turns WHERE user_id = 'ann'}), 121, 'the sum is that of the turns';
};

subtest 'what is left is not enough' => sub {
	my @turns = map { $db->begin('ben', $TEXT, %day, per_day => 3 * $EACH) } 1 .. 3;
	my ($outcome, $ms) = refused(sub { $db->begin('ben', $TEXT, %day, per_day => 3 * $EACH) });
	is $outcome, 'budget_reserved', 'turns that run have it';
	cmp_ok $ms, '<=', 100_000, '... not longer than to their deadline';
	is $pg->one(q{SELECT count(*) FROM parley.conversations WHERE user_id = 'ben'}), 3, '... and nothing is left behind';
	$db->end($_, 'done', 'Hi', input => 100, output => 9) for @turns;
	is usage('ben'), '0 327 0', 'all spent';
	($outcome, $ms) = refused(sub { $db->begin('ben', $TEXT, %day, per_day => 3 * $EACH) });
	is $outcome, 'budget_exceeded', 'the day is over for him';
	cmp_ok abs($ms - to_midnight()), '<', 5000, '... until midnight, UTC';
	is $db->begin('bob', $TEXT, %day, per_day => 3 * $EACH)->{outcome}, 'begun', 'another user has his own';
	age('ben', 1);
	is $db->begin('ben', $TEXT, %day, per_day => 3 * $EACH)->{outcome}, 'begun', 'a new day is a new row';
	is usage('ben', 1), '0 327 0', '... the old one stays as it is';
	is usage('ben'), "$EACH 0 0", '... the new one is empty but for this';

	# The first look knows nothing of the history: the second does, and undoes all.
	my $long = $db->talk('cat', 'x' x 400, 'y' x 400, in => 1);
	my $tokens = turn_row($long)->{tokens};
	is((refused(sub { $db->begin('cat', $TEXT, in($long), key => 'k', hash => 'h', %day, per_day => $EACH + $tokens - 1) }))[0],
	    'budget_exceeded', 'with its history it is too much');
	is $pg->one(q{SELECT turns FROM parley.conversations WHERE user_id = 'cat'}), 1, '... the conversation is as it was';
	is $pg->one(q{SELECT count(*) FROM parley.idempotency_keys WHERE user_id = 'cat'}), 0, '... the key is free';
	is usage('cat'), '', '... there is no row';
	is $db->begin('cat', $TEXT, in($long), key => 'k', hash => 'h', %day, per_day => $EACH + $tokens)->{outcome}, 'begun', 'one token more will do';
};

subtest 'steps' => sub {
	my $turn = $db->begin('dan', $TEXT, %day);
	my @call = (['list_tasks', {}]);
	$db->step($turn, [@call], input => 150, output => 10, per_day => 1000, next_tokens => 260, id => '00000000-0000-4000-8000-0000000000aa');
	is $turn->{budget_ms}, undef, 'another call may be made';
	is usage('dan'), '420 0 0', '... for which there is enough';
	$db->step({ %$turn, next => 1 }, [@call], input => 150, output => 10, per_day => 1000, next_tokens => 260,
	    id => '00000000-0000-4000-8000-0000000000aa');
	is usage('dan'), '420 0 0', 'a step said again reserves nothing more';
	$db->answer($turn, 1, 0, '{}', 0);
	my $other = $db->begin('dan', $TEXT, %day);
	$db->step($turn, [@call], input => 200, output => 20, per_day => 1000, next_tokens => 900);
	cmp_ok abs($turn->{budget_ms} - to_midnight()), '<', 5000, 'no third call: there is not enough';
	is usage('dan'), 380 + $EACH . ' 0 0', '... what it has used is set aside, no more';
	cmp_ok $db->load($turn)->{budget_ms}, '>', 0, '... and whoever goes on with it knows';
	is $db->load($other)->{budget_ms}, undef, '... but not of another';
	$db->end($turn, 'failed', undef, error_code => 'budget_exceeded', input => 350, output => 30);
	is usage('dan'), "$EACH 380 0", 'it has ended';
	is((refused(sub { $db->retry($turn, %day, per_day => 500) }))[0], 'budget_exceeded', 'to ask it again is a turn as well');
	is turn_row($turn)->{state}, 'failed', '... and it stays as it was';
	my $again = $db->retry($turn, %day);
	is $again->{run}, 2, 'with a larger budget it is done';
	$db->end($again, 'done', 'Hi', input => 5, output => 5);
	$db->end($other, 'done', 'Hi', input => 5, output => 5);
	is usage('dan'), '0 400 0', 'what an earlier run has used stays spent';

	# A limit that is lifted in the middle, or set.
	my $lifted = $db->begin('don', $TEXT, %day);
	$db->step($lifted, [@call], input => 5000, output => 10, per_day => 0, next_tokens => 0);
	is $lifted->{budget_ms}, undef, 'no limit any more';
	is $db->load($lifted)->{budget_ms}, undef, '... also for who takes it over';
	$db->end($lifted, 'done', 'Hi', input => 5000, output => 10) if $db->answer($lifted, 1, 0, '{}', 0);
	is usage('don'), '0 5010 0', '... and it is settled';
	my $free = $db->begin('don', $TEXT);
	$db->step($free, [@call], input => 5000, output => 10, per_day => 10, next_tokens => 10);
	is $free->{budget_ms}, undef, 'a turn that was begun without a limit has none';
};

subtest 'whoever ends it settles it' => sub {
	my $live = $db->begin('eve', $TEXT, %day);
	my @queued = map { $db->begin('eve', $TEXT, in($live), %day) } 1 .. 3;
	my ($reserved) = split / /, usage('eve');
	is $reserved, $pg->one(q{SELECT sum(reserved) FROM parley.turns WHERE user_id = 'eve'}), 'those that wait count';
	$db->cancel($queued[0]);
	is +(split / /, usage('eve'))[0], $reserved - turn_row($queued[0])->{reserved}, 'cancelled in the queue: nothing was used';
	my $new = $db->begin('eve', $TEXT, in($live), on_busy => 'interrupt', %day);
	is +(split / /, usage('eve'))[0], turn_row($live)->{reserved} + turn_row($new)->{reserved}, 'interrupted: those behind it are out';
	my $row = $db->end_row($live, 'cancelled', 'half', interrupted => 1, input => 30, output => 3, estimated => 1);
	is $row->{next_turn}, $new->{turn}, 'the next one is handed on';
	is usage('eve'), turn_row($new)->{reserved} . ' 33 33', '... with its reservation';
	ok $db->one('SELECT parley.conversation_delete(?, ?)', 'eve', $live->{conversation_id}), 'deleted while it runs';
	is +(split / /, usage('eve'))[0], 0, '... nothing is set aside';
	cmp_ok +(split / /, usage('eve'))[1], '>', 33 + $EACH, '... and what the model may just be writing is charged';

	# Its worker has died.
	my $dead = $db->begin('fay', $TEXT, %day);
	$db->step($dead, [['list_tasks', {}]], input => 20, output => 2, per_day => 1000, next_tokens => 500);
	$db->answer($dead, 1, 0, '{}', 0);
	$db->pulse(15000, $dead);
	is usage('fay'), '522 0 0', 'a step, and one to come';
	$pg->psql(q{UPDATE parley.live SET lease_until = now() - interval '1 second'; UPDATE parley.turns SET attempts = 3 WHERE user_id = 'fay'});
	my $after = $db->take($dead);
	is $after->{outcome}, 'ended', 'given up for good';
	is usage('fay'), '0 22 0', '... what is stored is spent, the rest is free';
	my $taken = $db->begin('gil', $TEXT, %day);
	$db->release($taken);
	$after = $db->take({ %$taken, fence => 2 });
	is $after->{outcome}, 'begun', 'taken over';
	is usage('gil'), "$EACH 0 0", '... is no other turn';
	$db->end($after, 'done', 'Hi', input => 6, output => 6);
	is usage('gil'), '0 12 0', '... and settled once';
};

subtest 'turns that wait for a yes' => sub {
	my $asked = sub {
		my ($user) = @_;
		my $turn = $db->begin($user, $TEXT, %day);
		$db->tool($user, add_task => { title => 'x' });
		$db->step($turn, [[delete_task => { task_id => 1 }]], confirm => 1, input => 10, output => 1, per_day => 1000, next_tokens => 50);
		$db->ask($turn, 1, [0]);
		return $turn;
	};
	my $turn = $asked->('hal');
	is usage('hal'), "$EACH 0 0", 'it keeps what it may need';
	age('hal', 2);
	$db->cancel($turn);
	is usage('hal', 2), '0 11 0', 'cancelled: settled on the day it was asked for';
	is usage('hal'), '', '... not on this one';

	$turn = $asked->('ian');
	$pg->psql(q{UPDATE parley.turns SET expires_at = now() - interval '1 hour' WHERE user_id = 'ian' AND state = 'approval_required'});
	is $db->take($turn)->{outcome}, 'ended', 'expired';
	is usage('ian'), '0 11 0', '... settled';

	$turn = $asked->('jim');
	my $minute = { %day, per_minute => 1 };
	is $db->begin('jim', $TEXT, in($turn), on_busy => 'interrupt', %$minute)->{outcome}, 'begun', 'something else instead';
	is usage('jim'), turn_row({ %$turn, turn => 2 })->{reserved} . ' 11 0', '... the first is settled';

	$turn = $asked->('kim');
	$pg->psql(q{INSERT INTO parley.pace VALUES ('kim', ARRAY[clock_timestamp()], clock_timestamp())});
	my $yes = $db->begin('kim', 'yes', in($turn), yes => 't', %$minute, per_day => 1);
	is $yes->{outcome}, 'begun', 'a yes is no turn of its own: no limit is in its way';
	is $yes->{turn}, $turn->{turn}, '... it goes on';
	is((refused(sub { $db->begin('kim', 'yes', yes => 't', %$minute) }))[0], 'rate_limited', 'a yes to nothing is');
	$db->cancel($yes);

	$turn = $asked->('leo');
	my @queued = map { $db->begin('leo', $TEXT, in($turn), %day) } 1 .. 2;
	my $reserved = $pg->one(q{SELECT sum(reserved) FROM parley.turns WHERE user_id = 'leo' AND state IN ('running', 'queued')});
	is +(split / /, usage('leo'))[0], $reserved, 'a message instead of an answer: both count';
	$turn = $asked->('max');
	my $retried = $db->retry($turn, supersede => 1, %day);
	is $retried->{outcome}, 'begun', 'an earlier one is asked anew';
	is usage('max'), turn_row($turn)->{reserved} . ' 11 0', '... what waited is settled';
};

subtest 'turns in a minute' => sub {
	my %minute = (per_minute => 3);
	my @turns = map { $db->begin('ned', $TEXT, %minute) } 1 .. 3;
	my $r = $db->begin('ned', $TEXT, key => 'k', hash => 'h', %minute);
	is $r->{outcome}, 'rate_limited', 'the fourth';
	cmp_ok abs($r->{budget_ms} - 60_000), '<', 5000, '... for a minute';
	is $pg->one(q{SELECT count(*) FROM parley.idempotency_keys WHERE user_id = 'ned'}), 0, '... binds no key';
	$pg->psql(q{UPDATE parley.pace SET began = (SELECT array_agg(b - interval '55 seconds') FROM unnest(began) b) WHERE user_id = 'ned'});
	$r = $db->begin('ned', $TEXT, %minute);
	is $r->{outcome}, 'rate_limited', 'after 55 seconds';
	cmp_ok $r->{budget_ms}, '<=', 5000, '... the window is about to have room';
	$pg->psql(q{UPDATE parley.pace SET began = (SELECT array_agg(b - interval '5 seconds') FROM unnest(began) b) WHERE user_id = 'ned'});
	is $db->begin('ned', $TEXT, %minute)->{outcome}, 'begun', 'after 60 there is';
	is $pg->one(q{SELECT cardinality(began) FROM parley.pace WHERE user_id = 'ned'}), 1, '... and what is past is forgotten';
	$db->end($turns[0], 'failed', undef);
	is $db->retry($turns[0], %minute)->{outcome}, 'begun', 'a retry';
	is $db->begin('ned', $TEXT, in($turns[1]), %minute)->{outcome}, 'queued', 'and one that waits';
	is $db->begin('ned', $TEXT, %minute)->{outcome}, 'rate_limited', '... count as well';
	is $db->begin('ned', $TEXT, key => 'again', hash => 'h', %minute, per_minute => 4)->{outcome}, 'begun', 'a larger limit';
	is $db->begin('ned', $TEXT, key => 'again', hash => 'h', %minute)->{outcome}, 'known', 'what is known by its key is none';
	$pg->psql(q{UPDATE parley.pace SET began = (SELECT array_agg(b + interval '1 day') FROM unnest(began) b) WHERE user_id = 'ned'});
	cmp_ok $db->begin('ned', $TEXT, %minute)->{budget_ms}, '<=', 60_000, 'a clock that was put back locks nobody out for long';
};

subtest 'a hundred at once' => sub {
	my $got = crowd('olaf', 100, per_minute => 7);
	is delete $got->{begun}, 7, 'the seven that may';
	is +($got->{PF004} // 0) + ($got->{rate_limited} // 0), 93, '... the others are told';
	is $pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id = 'olaf'}), 7, '... are there';
	is $pg->one(q{SELECT count(*) FROM parley.conversations WHERE user_id = 'olaf'}), 7, '... and nothing of the others';

	$got = crowd('pia', 100, %day, per_day => 12 * $EACH + 5);
	is $got->{begun}, 12, 'the twelve for which there is enough';
	is usage('pia'), 12 * $EACH . ' 0 0', '... and not a token more is reserved';

	my $first = $db->talk('quin', $TEXT, 'Hi');
	$got = crowd('quin', 100, in($first), %day, per_day => 100_000, per_minute => 40);
	is $got->{begun} + $got->{queued}, 40, 'in one conversation, with both limits';
	is +(split / /, usage('quin'))[0], $pg->one(q{SELECT sum(reserved) FROM parley.turns WHERE user_id = 'quin'}), '... each has its part';
};

# Everything that takes these locks, against itself: none may ever wait in a circle.
subtest 'no circle' => sub {
	my %both = (%day, per_day => 1_000_000, per_minute => 1000);
	my @child;
	my $until = time + 4;
	for my $n (1 .. 6) {
		my $pid = fork // die "fork: $!";
		if ($pid) {
			push @child, $pid;
			next;
		}
		srand $n;
		my $own = Parley::SQL->new($pg);
		my $rc = 0;
		my $turn;
		while (time < $until) {
			my $state = failed(sub {
				my $c = sprintf '00000000-0000-4000-9000-%012d', int rand 3;
				my $do = int rand 8;
				if ($do < 3 || !$turn) {
					my $t = $own->begin('rex', $TEXT, conversation => $c, new => $c, create => 1, %both,
					    on_busy => (qw(queue interrupt))[rand 2], max_queued => 3);
					$turn = $t if ($t->{outcome} // '') eq 'begun';
				} elsif ($do < 5) {
					my $next = $own->end_row($turn, (qw(done failed))[rand 2], undef);
					$turn = $next->{next_turn} ? { %$turn, turn => $next->{next_turn}, run => $next->{next_run},
					    fence => $next->{next_fence}, next => 1 } : undef;
				} elsif ($do == 5) {
					$own->retry({ user => 'rex', conversation_id => $c, turn => 1 + int rand 3 }, supersede => 1, %both);
				} elsif ($do == 6) {
					$own->cancel({ user => 'rex', conversation_id => $c, turn => 1 + int rand 20 }, next => 0);
				} else {
					$own->rows('SELECT parley.conversation_delete(?, ?)', 'rex', $c) if rand() < .2;
				}
			});
			undef $turn if $state =~ /^PF00[12]/;
			$rc = 1, print STDERR "# $state\n" if $state eq '40P01' || $state !~ /^(?:PF00[1-4])?$/;
		}
		require POSIX;
		POSIX::_exit($rc);
	}
	my $bad = 0;
	for (@child) {
		waitpid $_, 0;
		$bad += $? != 0;
	}
	is $bad, 0, 'six at it for four seconds';
	cmp_ok +(split / /, usage('rex'))[1], '>', 0, '... and they have done something';
	is +(split / /, usage('rex'))[0], $pg->one(q{SELECT coalesce(sum(reserved), 0) FROM parley.turns WHERE user_id = 'rex'
		AND state IN ('running', 'queued', 'approval_required')}), 'what is reserved is what live turns have';
};

done_testing;
