# parleyctl user export and user erase: everything, of that user alone, also while a turn runs.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Ctl;
use Parley::Process;
use Parley::SQL;
use Parley::Test;

my $model = Parley::Model->new(scripts => {
	slow => text_reply('Al', map({ (100, '.') } 1 .. 300), 'most.'),
	busy => join('', map { call_reply('add_task', { title => "Task $_" }) . "---\n" } 1 .. 200) . text_reply('Done.'),
});
my $t = Parley::Test->new(model => $model, conf => { 'agent.max_steps' => 100, 'limits.user_tokens_per_day' => 10_000_000,
    'limits.user_turns_per_minute' => 1000 });
my $pg = $t->pg;
my $ctl = Parley::Ctl->new($pg);
my $ANN = q{ann o'neil "ä" %s\\};
my $YES = JSON::XS::true;

# A tool author's own table, with a wall that goes through a function; another application's; and tables that refer to each other.
$pg->psql(q{
	CREATE SCHEMA crm AUTHORIZATION parley_owner;
	SET ROLE parley_owner;
	CREATE FUNCTION crm.me() RETURNS text LANGUAGE sql STABLE RETURN current_setting('parley.user_id', true);
	CREATE TABLE crm.people (user_id text, id int, PRIMARY KEY (user_id, id));
	CREATE TABLE crm.calls (user_id text, id int, note text, secret_code text, FOREIGN KEY (user_id, id) REFERENCES crm.people);
	COMMENT ON COLUMN crm.calls.secret_code IS 'What opens the door. @secret';
	ALTER TABLE crm.people ENABLE ROW LEVEL SECURITY; ALTER TABLE crm.people FORCE ROW LEVEL SECURITY;
	ALTER TABLE crm.calls ENABLE ROW LEVEL SECURITY; ALTER TABLE crm.calls FORCE ROW LEVEL SECURITY;
	CREATE POLICY own ON crm.people USING (user_id = crm.me());
	CREATE POLICY own ON crm.calls USING (user_id = crm.me());
	RESET ROLE;
	CREATE TABLE public.sessions (user_id text, token text);
});

sub fill {
	my ($user) = @_;
	my $id = $t->chat($user, 'Add task: Buy milk')->{json}{conversation_id};
	$t->post('/api/chat', { message => 'hello', conversation_id => $id }, user => $user, headers => { 'Idempotency-Key' => 'k' });
	$t->chat($user, 'delete buy milk', conversation_id => $id);
	$t->post("/api/conversations/" . $t->chat($user, 'hi there')->{json}{conversation_id} . '/turns/1/retry', undef, user => $user);
	my $dbh = $pg->dbh;
	$dbh->do(q{INSERT INTO parley.mcp_sessions (user_id, server, url, session, opened_at) VALUES (?, 's', 'u', 'topsecret', now())}, undef, $user);
	$dbh->do(q{INSERT INTO parley.feedback VALUES (?, ?, 'x', 'positive', now())}, undef, $user, $id);
	$dbh->do(q{INSERT INTO crm.people VALUES (?, 1)}, undef, $user);
	$dbh->do(q{INSERT INTO crm.calls VALUES (?, 1, E'two\nlines', 'topsecret')}, undef, $user);
	$t->post('/mcp', { jsonrpc => '2.0', id => 1, method => 'tools/call', params => { name => 'add_task', arguments => { title => 'By mcp' } } },
	    user => $user, headers => { Accept => 'application/json, text/event-stream', 'MCP-Protocol-Version' => '2025-06-18' });
	return $id;
}

# table => rows, of all tables with a user_id, as the superuser sees them.
sub rows {
	my ($user) = @_;
	my %n;
	for (@{$pg->rows(q{SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
	    WHERE a.attname = 'user_id' AND c.relkind IN ('r', 'p')})}) {
		my $n = $pg->one("SELECT count(*) FROM $_->{name} WHERE user_id = ?", $user);
		$n{$_->{name}} = $n if $n;
	}
	return \%n;
}

sub bytes { my ($text) = @_; utf8::encode($text); return $text }

fill($_) for $ANN, 'bob';
my $bobs = rows('bob');

subtest 'the command line' => sub {
	for my $words ([], ['x'], ['export'], ['export', 'a', 'b'], ['export', '--yes', 'a'], ['erase'], ['dance', 'a']) {
		my ($status, $out, $err) = $ctl->run('user', @$words);
		is "$status $out", '2 ', "'@$words' is refused";
		like $err, qr/^usage: parleyctl user/m, '... with the usage';
	}
	for my $words (['export'], ['erase', '--yes']) {
		my ($status, $out, $err) = $ctl->run('user', @$words, 'nobody');
		is "$status $out", '1 ', "@$words: somebody unknown";
		like $err, qr/nothing is known of a user nobody/, '... says so';
		for my $user ("a\nb", "\xff\xfe", '', 'x' x 256) {
			($status, $out, $err) = $ctl->run('user', @$words, $user);
			is "$status $out", '1 ', '... a name that no token could bring';
			like $err, qr/no token could name this user/, '... says so';
		}
	}
	my ($status, $out, $err) = $ctl->run('user', 'erase', 'bob');
	is "$status $out", '1 ', 'erase without --yes, and nobody there';
	like $err, qr/say --yes/, '... says what to say';
	is_deeply rows('bob'), $bobs, '... and does nothing';
};

subtest 'on a terminal it asks' => sub {
	plan skip_all => 'script is not there (Debian: bsdutils)' unless grep { -x "$_/script" } split /:/, $ENV{PATH};
	my $say = sub {
		my ($word) = @_;
		my $line = "'$ctl->{program}' -c '$ctl->{dir}/parley.conf' user erase pat";
		local $ENV{PARLEY_AUTH_SECRET} = $Parley::Test::SECRET;
		my $out = qx{(sleep 0.5; printf '$word\\n'; sleep 0.5) | script -qec "$line" /dev/null 2>&1};
		return ($? >> 8, $out);
	};
	fill('pat');
	my $was = rows('pat');
	for my $word ('no', '', 'y', 'yes please') {
		my ($status, $out) = $say->($word);
		is $status, 1, "'$word'";
		like $out, qr/^parley\.messages +$was->{'parley.messages'}\r?\n.*Erase all of pat, for ever\? \(yes\/no\)/ms, '... it had asked, and said how much it is';
		is_deeply rows('pat'), $was, '... and nothing is gone';
	}
	is +($say->('yes'))[0], 0, 'yes';
	is_deeply rows('pat'), {}, '... and all is';
};

subtest 'export' => sub {
	my ($status, $out, $err) = $ctl->run('user', 'export', bytes($ANN));
	is $status, 0, 'everything' or diag $err;
	my $all = JSON::XS::decode_json($out);
	is $all->{user}, $ANN, 'the user';
	my $want = rows($ANN);
	is_deeply { map { @{$all->{tables}{$_}} ? ($_ => scalar @{$all->{tables}{$_}}) : () } keys %{$all->{tables}} }, $want, 'each row of each table';
	cmp_ok scalar(keys %$want), '>=', 11, '... of ' . join(' ', sort keys %$want);
	ok !(grep { $_->{user_id} ne $ANN } map { @$_ } values %{$all->{tables}}), 'nobody else\'s';
	unlike $out, qr/topsecret/, 'no secrets';
	is $all->{tables}{'parley.mcp_sessions'}[0]{session}, 'present', '... but that they are there';
	is $all->{tables}{'crm.calls'}[0]{secret_code}, 'present', "... a tool author's as well";
	is $all->{tables}{'crm.calls'}[0]{note}, "two\nlines", 'what a tool keeps';
	is_deeply [sort map { $_->{title} } @{$all->{tables}{'tasks.tasks'}}], ['Buy milk', 'By mcp'], 'tasks';
	is_deeply [map { $_->{run} } grep { $_->{content} eq 'hi there' } @{$all->{tables}{'parley.messages'}}], [1, 2], 'messages of all runs';
	ok scalar(grep { ($_->{approval} // '') eq 'waiting' } @{$all->{tables}{'parley.tool_calls'}}), 'questions';
	like $all->{tables}{'parley.conversations'}[0]{created_at}, qr/^\d{4}-\d\d-\d\dT.*\+00:00$/, 'times are UTC';
};

subtest 'without standard output' => sub {
	my ($status, undef, $err) = $ctl->run_closed('user', 'export', bytes($ANN));
	is $status, 1, 'an export that goes nowhere';
	is $err, "parleyctl: stdout: Bad file descriptor\n", '... says so, and tells nobody else';
};

subtest 'while somebody else deletes' => sub {
	fill('zoe');
	my $dbh = $pg->dbh;
	$dbh->begin_work;
	$dbh->do(q{SELECT parley.conversation_delete('zoe', c.id) FROM parley.conversations c WHERE c.user_id = 'zoe' ORDER BY c.id LIMIT 1});
	$dbh->do(q{INSERT INTO parley.conversations (user_id, id, title, created_at, updated_at)
	    SELECT 'zoe', ('ffffffff-ffff-4fff-8fff-' || lpad(i::text, 12, '0'))::uuid, 't', now(), now() FROM generate_series(1, 30) i});
	$dbh->commit;
	$dbh->begin_work;
	$dbh->do(q{SELECT parley.conversation_delete('zoe', c.id) FROM (SELECT id FROM parley.conversations WHERE user_id = 'zoe' ORDER BY id LIMIT 20) c});
	$ctl->start('user', 'erase', '--yes', 'zoe');
	ok +(Parley::Process::wait_for {
		$dbh->selectrow_array(q{SELECT count(*) FROM pg_locks l WHERE NOT l.granted})
	} 20), 'erase waits for it';
	$dbh->commit;
	my ($status, $out, $err) = $ctl->wait;
	is $status, 0, 'and goes on' or diag $err;
	unlike $out, qr/came meanwhile/, '... at its first look';
	is_deeply rows('zoe'), {}, 'nothing is left';
};

subtest 'streamed' => sub {
	my $db = Parley::SQL->new($pg);
	my $turn = $db->begin('big', 'go');
	$pg->dbh->do(q{INSERT INTO parley.messages (user_id, conversation_id, turn, run, idx, id, role, content, created_at)
	    SELECT 'big', ?, 1, 1, i, gen_random_uuid(), 'assistant', repeat('x', 20000), now() FROM generate_series(1, 3000) i}, undef,
	    $turn->{conversation_id});
	my $rss = 0;
	$ctl->start('user', 'export', 'big');
	my $until = time + 60;
	while (time < $until && -e "/proc/$ctl->{pid}/status") {
		open my $fh, '<', "/proc/$ctl->{pid}/status" or last;
		my ($kb) = map { /^VmHWM:\s+(\d+)/ ? $1 : () } <$fh>;
		last unless $kb;
		$rss = $kb if $kb > $rss;
		sleep 0.01;
	}
	my ($status, $out) = $ctl->wait;
	is $status, 0, '60 MB';
	is scalar @{JSON::XS::decode_json($out)->{tables}{'parley.messages'}}, 3001, '... all of it';
	SKIP: {
		# What was freed they keep for a while.
		skip 'a sanitizer is in it', 1 if `grep -c __asan_init '$ctl->{program}'` > 0;
		cmp_ok $rss, '<', 40_000, '... and not in memory';
	}
	($status) = $ctl->run('user', 'erase', '--yes', 'big');
	is $status, 0, 'gone';
};

subtest 'erase' => sub {
	my $want = rows($ANN);
	my ($status, $out, $err) = $ctl->run('user', 'erase', '--yes', bytes($ANN));
	is $status, 0, 'all of it' or diag $err;
	is_deeply rows($ANN), {}, 'nothing is left';
	is_deeply rows('bob'), $bobs, 'and nothing of anybody else is gone';
	like $out, qr/^\Q$_\E +$want->{$_}$/m, "it says how many: $_" for sort keys %$want;
	like $out, qr/^nothing of .* is left in \d+ tables$/m, 'and that it has looked';
	is $t->get('/api/conversations', user => $ANN)->{json}{conversations}[0], undef, 'who comes again is new';
};

subtest 'while turns run' => sub {
	for my $script (qw(slow busy)) {
		my $user = "live-$script";
		my $c = $t->begin_chat($user, "script:$script", stream => $YES, seconds => 60);
		my $id = $c->event->{data}{conversation_id};
		my $queued = $t->begin_chat($user, 'hello', conversation_id => $id, stream => $YES);
		$queued->event;
		sleep 0.6;
		my $since = time;
		my ($status, $out, $err) = $ctl->run('user', 'erase', '--yes', $user);
		is $status, 0, "$script: erased" or diag $out, $err;
		cmp_ok time - $since, '<', 25, '... in time';
		is_deeply rows($user), {}, '... nothing is left';
		my $last;
		while (my $e = $c->event) { $last = $e }
		ok !$last || $last->{event} ne 'done' || $last->{data}{status} eq 'cancelled', '... the stream ended, and not as if it were done';
		sleep 2.5;
		is_deeply rows($user), {}, '... and no worker has written since';
	}
};

subtest 'a worker that does not hear of it' => sub {
	# As after a pause of the machine: it goes on with what it was doing.
	my $db = Parley::SQL->new($pg);
	my $turn = $db->begin('deaf', 'go');
	$db->step($turn, [['add_task', { title => 'x' }]]);
	$db->pulse(15000, $turn);
	my ($status, $out) = $ctl->run('user', 'erase', '--yes', 'deaf');
	is $status, 0, 'erased all the same';
	is Parley::SQL::failed(sub { $db->run($turn, 1, 0) }), 'PF002', 'its tool does nothing';
	is Parley::SQL::failed(sub { $db->step($turn, []) }), 'PF002', 'nor its step';
	is Parley::SQL::failed(sub { $db->end($turn, 'done', 'x') }), 'PF002', 'nor its end';
	$db->pulse(15000, $turn);
	is_deeply rows('deaf'), {}, 'nothing has come back';
};

subtest 'a user who goes on' => sub {
	my $stop = time + 6;
	my $pid = fork // die;
	if (!$pid) {
		$t->chat('eager', 'Add task: More') while time < $stop;
		require POSIX;
		POSIX::_exit(0);
	}
	Parley::Process::wait_for { rows('eager')->{'tasks.tasks'} } 20;
	my ($status, $out, $err) = $ctl->run('user', 'erase', '--yes', 'eager');
	like "$status $out$err", qr/^(?:0 .*nothing of|1 .*again: take away)/s, 'is told of, or was through';
	waitpid $pid, 0;
	($status) = $ctl->run('user', 'erase', '--yes', 'eager');
	ok !%{rows('eager')}, 'and then it is gone';
};

subtest 'what is not ours' => sub {
	my $dbh = $pg->dbh;
	$dbh->do(q{INSERT INTO public.sessions VALUES ('zoe', 't')});
	$dbh->do('GRANT SELECT, DELETE ON public.sessions TO parley_owner');
	fill('zoe');
	my ($status, $out) = $ctl->run('user', 'export', 'zoe');
	is $status, 0, 'export';
	ok !JSON::XS::decode_json($out)->{tables}{sessions}, '... another application\'s table is not in it';
	($status, $out, my $err) = $ctl->run('user', 'erase', '--yes', 'zoe');
	is $status, 1, 'erase';
	like $err, qr/1 rows in (?:public\.)?sessions were not touched/, '... says what it has left';
	is_deeply [keys %{rows('zoe')}], ['sessions'], '... and nothing else is left';
	$dbh->do('REVOKE ALL ON public.sessions FROM parley_owner');
	fill('zoe');
	($status) = $ctl->run('user', 'erase', '--yes', 'zoe');
	is $status, 0, 'what it cannot see is not its business';

	fill('yan');
	$pg->do('ALTER TABLE crm.calls OWNER TO postgres');
	($status, $out, $err) = $ctl->run('user', 'export', 'yan');
	is $status, 1, 'a table of ours that it may not read';
	like $err, qr/crm\.calls cannot be looked into: GRANT/, '... is named';
	($status, $out, $err) = $ctl->run('user', 'erase', '--yes', 'yan');
	is $status, 1, '... and nothing is begun';
	ok rows('yan')->{'parley.messages'}, '... at all';
};

is_deeply rows('bob'), $bobs, 'after all this, what was not to be touched was not';
is $t->pool->sickness, '', 'the workers are well';
done_testing;
