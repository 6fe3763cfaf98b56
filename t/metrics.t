# GET /api/metrics: the format to the letter, the numbers, who may ask, and that asking is cheap.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Process;
use Parley::SQL;
use Parley::Test;

my $model = Parley::Model->new(scripts => {
	slow => text_reply('Al', 60_000, 'most.'),
	refused => "status 400\nraw {}\n",
	made_up => call_reply('My name is Ann', {}) . "---\n" . text_reply('Sorry.'),
});
my $t = Parley::Test->new(model => $model);
my $pg = $t->pg;
my $TYPE = 'text/plain; version=0.0.4; charset=utf-8';

# https://prometheus.io/docs/instrumenting/exposition_formats/ and the rules for names, without any mercy:
# { name => { type, help, samples => { '{labels in their order}' => value } } }; dies of what is wrong.
sub parse {
	my ($text) = @_;
	my (%family, $now);
	my $name = qr/[a-zA-Z_:][a-zA-Z0-9_:]*/;

	die "the last line has no end\n" unless $text =~ /\n\z/;
	die "a carriage return\n" if $text =~ /\r/;
	for my $line (split /\n/, $text, -1) {
		next if $line eq '';
		if ($line =~ /^# HELP ($name) (.*)$/) {
			(my $help, $now) = ($2, $1);
			die "$now: a second HELP, or a group that is not one\n" if $family{$now};
			die "$now: a help of no words\n" unless $help =~ /\S/;
			die "$now: a backslash that escapes nothing\n" if $help =~ /\\(?![\\n])/;
			$family{$now} = { help => $help, samples => {} };
		} elsif ($line =~ /^# TYPE ($name) (counter|gauge|histogram|summary|untyped)$/) {
			die "$1: a TYPE away from its HELP\n" if !defined $now || $1 ne $now || $family{$1}{type} || %{$family{$1}{samples}};
			$family{$1}{type} = $2;
		} elsif ($line =~ /^($name)(?:\{(.*)\})? (\S+)$/) {
			my ($of, $labels, $value) = ($1, $2 // '', $3);
			die "$of: a sample outside of its group\n" unless defined $now && $of eq $now && $family{$of}{type};
			die "$of: $value is no number\n" unless $value =~ /^(?:[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|NaN|[+-]Inf)$/;
			my %label;
			while ($labels =~ /\G([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,(?=[a-zA-Z_])|\z)/gc) {
				my ($key, $text) = ($1, $2);
				die "$of: the label $key twice\n" if exists $label{$key};
				die "$of: a reserved label\n" if $key =~ /^(?:__|(?:quantile|le|job|instance)$)/;
				$label{$key} = $text;
			}
			die "$of: labels {$labels}\n" if (pos($labels) // 0) != length $labels;
			my $key = join ',', map { "$_=$label{$_}" } sort keys %label;
			die "$of: {$key} twice\n" if exists $family{$of}{samples}{$key};
			$family{$of}{samples}{$key} = $value;
		} else {
			die "no line of the format: $line\n";
		}
	}
	for my $of (sort keys %family) {
		die "$of: no TYPE, or no samples\n" unless $family{$of}{type} && %{$family{$of}{samples}};
		die "$of: a name of ours, in base units, without its type\n"
		    unless $of =~ /^parley_[a-z_]+$/ && $of !~ /_(?:total|count|sum|bucket|gauge|ms|milliseconds|percent)$/;
	}
	return \%family;
}

sub ask { return ($_[0] // $t)->get('/api/metrics', token => undef, @_[1 .. $#_]) }

# What is told now, not what was counted a moment ago.
sub fresh {
	$pg->do(q{DELETE FROM parley.facts WHERE key = 'ops:metrics'});
	my $r = ask();
	is $r->{status}, 200, 'metrics' or diag $r->{body};
	my $all = parse($r->{body});
	my %flat;
	for my $of (keys %$all) {
		$flat{$_ eq '' ? $of : "$of\{$_}"} = $all->{$of}{samples}{$_} for keys %{$all->{$of}{samples}};
	}
	return \%flat;
}

subtest 'the parser is strict' => sub {
	my $good = "# HELP parley_x A.\n# TYPE parley_x gauge\nparley_x{a=\"b\\\"\",c=\"\"} 1.5e-3\n";
	ok parse($good), 'a good text';
	my %bad = (
		'no end' => $good =~ s/\n\z//r, 'no type' => $good =~ s/# TYPE.*\n//r, 'no help' => $good =~ s/# HELP.*\n//r,
		'a number' => $good =~ s/1\.5e-3/1,5/r, 'a label twice' => $good =~ s/c=/a=/r, 'a sample twice' => $good . ($good =~ /(.*\n)\z/)[0],
		'an escape' => $good =~ s/\\"/\\q/r, 'a comma too much' => $good =~ s/""\}/"",}/r, 'a blank' => $good =~ s/ 1/  1/r,
		'a group in two parts' => $good . ($good =~ s/parley_x/parley_y/gr) . "parley_x 2\n", 'a unit' => $good =~ s/_x/_ms/gr,
	);
	ok !eval { parse($bad{$_}); 1 }, $_ for sort keys %bad;
};

subtest 'nothing has happened' => sub {
	my $r = ask();
	is $r->{status}, 200, 'from here it is told';
	is $r->{headers}{'content-type'}, $TYPE, 'its type';
	is $r->{headers}{'cache-control'}, 'no-store', 'nobody keeps it';
	like $r->{headers}{'x-request-id'} // '', qr/./, 'a request id';
	my $all = parse($r->{body});
	is_deeply $all->{parley_turns}{samples}, { 'state=queued' => 0, 'state=running' => 0, 'state=approval_required' => 0 },
	    'states that nothing is in are told';
	is $_->{type}, 'gauge', 'a gauge' for values %$all;
	like ask()->{body}, qr/^parley_info\{version="\d+\.\d+[^"]*"\} 1$/m, 'the version';
};

subtest 'what has happened' => sub {
	my $id = $t->chat('ann.private', 'Add task: Secret milk')->{json}{conversation_id};
	$t->chat('ann.private', 'show my tasks', conversation_id => $id);
	$t->chat('ann.private', 'script:made_up');
	is $t->chat('bob.private', 'script:refused')->{status}, 502, 'one that fails';
	is $t->chat('ann.private', 'delete secret milk', conversation_id => $id)->{json}{status}, 'approval_required', 'one that waits';
	my $slow = $t->begin_chat('bob.private', 'script:slow', stream => JSON::XS::true);
	my $busy = $slow->event->{data}{conversation_id};
	my $queued = $t->begin_chat('bob.private', 'hello', conversation_id => $busy, stream => JSON::XS::true);
	$queued->event;
	sleep 1.1;
	my $m = fresh();
	is $m->{"parley_turns{state=$_}"}, 1, $_ for qw(queued running approval_required);
	cmp_ok $m->{"parley_oldest_turn_seconds{state=$_}"}, '>', 1, "the oldest that is $_" for qw(queued running approval_required);
	is $m->{parley_turns_without_worker}, 0, 'all have their worker';
	is $m->{'parley_turns_ended{state=done}'}, 3, 'done';
	is $m->{'parley_turns_ended{state=failed}'}, 1, 'failed';
	is $m->{'parley_turn_errors{code=model_error}'}, 1, '... why';
	cmp_ok $m->{'parley_turn_seconds{percentile=50}'}, '>', 0, 'how long they took';
	cmp_ok $m->{'parley_turn_seconds{percentile=99}'}, '>=', $m->{'parley_turn_seconds{percentile=50}'}, '... in order';
	cmp_ok $m->{'parley_first_text_seconds{percentile=95}'}, '>', 0, 'the first text';
	my ($in) = map { $m->{$_} } grep { /^parley_tokens\{direction=input,model=demo/ } keys %$m;
	cmp_ok $in, '>', 100, 'tokens';
	is $m->{'parley_tool_calls{outcome=ok,tool=add_task}'}, 1, 'tool calls';
	is $m->{'parley_tool_calls{outcome=error,tool=unknown}'}, 1, 'what a model made up has no name here';
	ok exists $m->{'parley_tool_seconds{percentile=95,tool=list_tasks}'}, 'how long they took';
	unlike ask()->{body}, qr/private|milk|My name|script/i, 'no user and no text';

	$t->post("/api/conversations/$busy/turns/$_/cancel", undef, user => 'bob.private') for 2, 1;
};

subtest 'counted once' => sub {
	fresh();
	my $at = sub { $pg->one(q{SELECT stored_at FROM parley.facts WHERE key = 'ops:metrics'}) };
	my ($first, $body) = ($at->(), ask()->{body});
	my $other = Parley::Test->new(pg => $pg, model => $model);
	is ask($other)->{body}, $body, 'another pool tells the same';
	ask($other) for 1 .. 5;
	is $at->(), $first, '... without counting';
	$pg->do(q{UPDATE parley.facts SET expires_at = clock_timestamp() WHERE key = 'ops:metrics'});
	ask($other);
	isnt $at->(), $first, 'until its time is over';

	# While one counts, the others are not kept waiting.
	$pg->do(q{UPDATE parley.facts SET expires_at = clock_timestamp() WHERE key = 'ops:metrics'});
	my $dbh = $pg->dbh;
	$dbh->begin_work;
	$dbh->do(q{SELECT FROM parley.facts WHERE key = 'ops:metrics' FOR UPDATE});
	my $since = time;
	is ask()->{status}, 200, 'while another counts';
	cmp_ok time - $since, '<', 3, '... soon';
	$dbh->rollback;
};

subtest 'who may ask' => sub {
	error_is($t->post('/api/metrics', '{}'), 405, 'method_not_allowed', 'POST');
	is $t->post('/api/metrics', '{}')->{headers}{allow}, 'GET, HEAD', '... Allow';
	my $r = $t->request('HEAD', '/api/metrics', undef, token => undef);
	is "$r->{status} " . length($r->{body} // ''), '200 0', 'HEAD';
	for my $header ('X-Forwarded-For', 'Forwarded', 'X-Real-IP', 'Via') {
		error_is(ask($t, headers => { $header => '203.0.113.7' }), 404, 'not_found', "through a proxy ($header)");
	}
	is ask($t, headers => { Authorization => 'Bearer x' })->{status}, 200, 'a token that nobody asked for does not matter';

	my $token = 'a token of the metrics alone';
	my $own = Parley::Test->new(pg => $pg, model => $model, env => { PARLEY_METRICS_TOKEN => $token });
	error_is(ask($own), 401, 'missing_token', 'with a token of its own: none, from here');
	like ask($own)->{headers}{'www-authenticate'}, qr/^Bearer /, '... the challenge';
	error_is($own->get('/api/metrics', token => $_), 401, 'invalid_token', "'$_'")
	    for "${token}x", substr($token, 0, -1), uc $token, $own->token('alice');
	is $own->get('/api/metrics', token => $token)->{status}, 200, 'the right one';
	is $own->get('/api/metrics', token => $token, headers => { 'X-Forwarded-For' => '203.0.113.7' })->{status}, 200, '... from anywhere';
	error_is($own->get('/api/conversations', token => $token), 401, 'invalid_token', '... and for nothing else');
	my $mcp = Parley::Test->new(pg => $pg, model => $model, conf => { 'api.serve' => 'mcp' });
	is ask($mcp)->{status}, 200, 'a pool for /mcp alone tells it, too';
};

subtest 'the database is away' => sub {
	$pg->stop('fast');
	error_is(ask(), 503, 'database_unavailable', 'it says so');
	$pg->start;
	ok +(Parley::Process::wait_for { ask()->{status} == 200 } 15), 'and it heals';
};

# The numbers of a year of a busy server, and what must not grow with them.
subtest 'many turns' => sub {
	my $n = $ENV{PARLEY_LONG} ? 1_000_000 : 200_000;
	my $big = Parley::Postgres->new(settings => { autovacuum => 'off' });
	$big->do(<<"SQL");
INSERT INTO parley.turns (user_id, conversation_id, turn, state, tokens, steps, started_at, deadline, ended_at, model, input_tokens,
    output_tokens, timings)
SELECT 'user' || i % 5000, gen_random_uuid(), 1, CASE WHEN i % 50 = 0 THEN 'failed' ELSE 'done' END, 10, i % 2, x.at, x.at, x.at,
       'demo', 500, 50, '{"first_byte_ms":300.0}'
  FROM (SELECT i, now() - interval '90 days' * (1 - i::float8 / $n) AS at FROM generate_series(1, $n) i) x
SQL
	$big->do('VACUUM ANALYZE parley.turns');
	my $seen = sub {
		my ($role, $set, $sql) = @_;
		my $stat = q{SELECT seq_scan, seq_tup_read + idx_tup_fetch AS rows FROM pg_stat_user_tables WHERE relname = 'turns'};
		my $dbh = $big->dbh($role);
		$dbh->do($set) if $set;
		my $before = $big->rows($stat)->[0];
		my $since = time;
		my ($got) = $dbh->selectrow_array($sql);
		note sprintf '%s: %.0f ms', $sql, (time - $since) * 1000;
		$dbh->do('SELECT pg_stat_force_next_flush()');
		$dbh->do('SELECT 1');
		my $after = $big->rows($stat)->[0];
		return ($after->{seq_scan} - $before->{seq_scan}, $after->{rows} - $before->{rows}, $got);
	};
	for my $case (['parley_worker', undef, 'SELECT length(parley.metrics(0))', 'metrics', $n / 100],
	    ['postgres', 'SET ROLE parley_ops', q{SELECT length(parley.stats(now() - interval '24 hours')::text)}, 'stats of a day', $n / 30]) {
		my ($role, $set, $sql, $what, $most) = @$case;
		my ($scans, $rows, $got) = $seen->($role, $set, $sql);
		cmp_ok $got, '>', 100, "$what: told";
		is $scans, 0, "$what: no scan of the table";
		cmp_ok $rows, '<', $most, "$what: few rows are looked at, of $n";
	}

	# A step changes nothing that an index knows: it stays in its page.
	my $db = Parley::SQL->new($big);
	my $hot = sub {
		$db->dbh->do('SELECT pg_stat_force_next_flush()');
		$db->dbh->do('SELECT 1');
		return $big->one(q{SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'turns'});
	};
	my $turn = $db->begin('hot', 'go');
	my $before = $hot->();
	$db->step($turn, []) for 1 .. 5;
	is $hot->() - $before, 5, 'steps are as cheap as without the index (HOT)';
	my $lost = sub { $big->one(q{SELECT amount FROM parley.metrics_rows('1 s') WHERE name = 'parley_turns_without_worker'}) };
	$db->pulse(15000, $turn);
	is $lost->(), 0, 'a turn that has a worker';
	$db->release($turn);
	is $lost->(), 1, '... and one that has not';
};

is $t->pool->sickness, '', 'the workers are well';
done_testing;
