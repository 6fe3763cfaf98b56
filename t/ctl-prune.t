# parleyctl prune: what has been silent for long goes, in small pieces, and nothing that lives.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Ctl;
use Parley::Process;
use Parley::SQL;
use Parley::Test;

my $pg = Parley::Postgres->new;
my $ctl = Parley::Ctl->new($pg);
my $db = Parley::SQL->new($pg);

# A conversation with a task and an ended turn, so many days old.
sub old {
	my ($user, $days, %o) = @_;
	my $turn = $db->begin($user, 'hello', %o);
	$db->step($turn, [['add_task', { title => 'Keep me' }]]);
	$db->run($turn, 1, 0);
	$db->end($turn, 'done', 'Hi') unless $o{live};
	$pg->dbh->do(qq{UPDATE parley.conversations SET updated_at = now() - interval '$days days' WHERE id = ?}, undef, $turn->{conversation_id});
	return $turn;
}

sub count { my ($table, $where) = @_; return $pg->one("SELECT count(*) FROM $table" . ($where ? " WHERE $where" : '')) }

sub prune {
	my ($status, $out, $err) = $ctl->run('prune', @_);
	is $status, 0, "prune @_" or diag $err;
	return { map { /^(\S+) +(\d+) / ? ($1 => $2) : () } split /\n/, $out }, $out;
}

subtest 'the command line' => sub {
	for my $words ([], ['--dry-run'], ['--older-than'], ['--older-than', '5'], ['--older-than', '59min'], ['--older-than', '0d'], ['--older-than', 'x'],
	    ['--older-than', '1d', 'x']) {
		my ($status, $out, $err) = $ctl->run('prune', @$words);
		is "$status $out", '2 ', "'@$words' is refused";
		like $err, qr/^usage: parleyctl prune/m, '... with the usage';
		like $err, qr/at least 1h here: \Q$words->[1]\E$/m, '... and what a time is' if @$words == 2;
	}
};

subtest 'by age' => sub {
	# More than a batch, of users in an order that collations differ about.
	for my $user ('Zoe', 'adam', "\xc3\xa4ron", '_x', 'B b', map { "user$_" } 1 .. 3) {
		utf8::decode(my $name = $user);
		old($name, 400) for 1 .. 9;
		old($name, 300);
	}
	my @live = (old('live', 500, live => 1), old('live2', 500, live => 1));
	$db->begin('live2', 'behind', conversation => $live[1]{conversation_id});
	$pg->do(q{UPDATE parley.conversations SET updated_at = now() - interval '500 days' WHERE user_id = 'live2'});
	my $all = count('parley.conversations');
	my ($n, $out) = prune('--older-than', '365d', '--dry-run');
	is $n->{'parley.conversations'}, 72, 'a dry run counts';
	like $out, qr/^parley\.conversations +72 to delete, 2 left alone: live, or gone meanwhile$/m, '... and says what lives';
	is count('parley.conversations'), $all, '... and deletes nothing';
	($n, $out) = prune('--older-than', '365d');
	is $n->{'parley.conversations'}, 72, 'now they go';
	like $out, qr/^parley\.conversations +72 deleted, 2 left alone: live, or gone meanwhile$/m, '... but what lives';
	is count('parley.conversations'), $all - 72, '... and no others';
	is count("parley.$_", q{NOT EXISTS (SELECT FROM parley.conversations c WHERE c.user_id = x.user_id AND c.id = x.conversation_id)} =~ s/x\./parley.$_./gr),
	    0, "$_ go with them" for qw(turns messages tool_calls live);
	is count('tasks.tasks'), 82, 'tasks stay';
	is +(prune('--older-than', '365d'))[0]{'parley.conversations'}, 0, 'again: none';
	ok $db->step($live[0], [['list_tasks', {}]]), 'what lives goes on';
};

subtest 'what is left over' => sub {
	my @rows = (
		q{INSERT INTO parley.idempotency_keys VALUES ('left', 'old', 'h', gen_random_uuid(), 1, now() - interval '25 hours')},
		q{INSERT INTO parley.idempotency_keys VALUES ('left', 'new', 'h', gen_random_uuid(), 1, now() - interval '23 hours')},
		q{INSERT INTO parley.live (user_id, conversation_id, turn, fence, lease_until) VALUES ('left', gen_random_uuid(), 1, 1, now() - interval '2 days')},
		q{INSERT INTO parley.facts VALUES ('old', '', now() - interval '2 days', now()), ('new', '', now(), now())},
		q{INSERT INTO parley.mcp_sessions (user_id, server, url, opened_at) VALUES ('left', 'old', 'u', now() - interval '400 days'),
		    ('left', 'new', 'u', now() - interval '300 days')},
		q{INSERT INTO parley.mcp_sessions (user_id, server, url, opened_at, tools_until) VALUES ('left', 'used', 'u', now() - interval '400 days', now())},
		q{INSERT INTO parley.tool_calls (user_id, conversation_id, turn, run, idx, pos, id, call_id, tool_name, parameters, result, executed_at)
		    SELECT 'left', gen_random_uuid(), 0, 0, 0, 0, gen_random_uuid(), 'c', 't', '{}', '{}', now() - interval '1 day' * d FROM unnest('{400,300}'::int[]) d},
		q{INSERT INTO parley.usage (user_id, day) VALUES ('left', current_date - 400), ('left', current_date - 300)},
		q{INSERT INTO parley.pace VALUES
		    ('left', ARRAY[now() - interval '3 days', now() - interval '2 days'], now() - interval '2 days'), ('left2', ARRAY[now()], now())},
	);
	$pg->do($_) for @rows;
	my %want = ('parley.idempotency_keys' => 1, 'parley.live' => 1, 'parley.facts' => 1, 'parley.mcp_sessions' => 1, 'parley.tool_calls' => 1,
	    'parley.usage' => 1, 'parley.pace' => 1);
	my $n = (prune('--older-than', '365d', '--dry-run'))[0];
	is_deeply { map { $n->{$_} ? ($_ => $n->{$_}) : () } keys %$n }, \%want, 'a dry run counts';
	$n = (prune('--older-than', '365d'))[0];
	is_deeply { map { $n->{$_} ? ($_ => $n->{$_}) : () } keys %$n }, \%want, 'now they go';
	is_deeply [map { $_->{server} } @{$pg->rows(q{SELECT server FROM parley.mcp_sessions WHERE user_id = 'left' ORDER BY 1})}], ['new', 'used'],
	    'the newest time of a row counts';
	is count('parley.idempotency_keys', q{key = 'new'}), 1, 'a key that still binds stays';
	is count('parley.live', q{user_id LIKE 'live%'}), count('parley.live'), 'leases of what lives stay';
	$pg->psql(q{CREATE TABLE parley.later (user_id text, at timestamptz); ALTER TABLE parley.later ENABLE ROW LEVEL SECURITY;
	    ALTER TABLE parley.later OWNER TO parley_owner; INSERT INTO parley.later VALUES ('left', now() - interval '400 days'), ('left', now());
	    CREATE POLICY own ON parley.later USING (user_id = current_setting('parley.user_id', true));
	    CREATE POLICY ops_reads ON parley.later FOR SELECT TO parley_ops USING (true); GRANT SELECT ON parley.later TO parley_ops});
	is +(prune('--older-than', '365d'))[0]{'parley.later'}, 1, 'a table that comes later is found by itself';
	$pg->psql('DROP TABLE parley.later');
};

subtest 'while turns begin' => sub {
	my $n = 300;
	my %old = map { $_->{conversation_id} => $_ } map { old("race$_", 400) } 1 .. $n;
	my @some = map { $old{$_} } (sort keys %old)[0 .. $n / 2 - 1];
	$ctl->start('prune', '--older-than', '365d');
	my (%outcome, @begun);
	for my $turn (@some) {
		my $new = $db->begin($turn->{user}, 'again', conversation => $turn->{conversation_id});
		$outcome{$new->{outcome}}++;
		push @begun, $new if $new->{outcome} eq 'begun';
	}
	my ($status, $out, $err) = $ctl->wait;
	is $status, 0, 'prune' or diag $err;
	note join ' ', map { "$_ $outcome{$_}" } sort keys %outcome;
	is_deeply [grep { !/^(begun|not_found)$/ } keys %outcome], [], 'each either goes on or is gone';
	my ($done) = $out =~ /^parley\.conversations +(\d+)/m;
	is $done, $n - @begun, 'what has begun is left alone, all else is gone';
	is scalar(grep { $db->load($_)->{outcome} ne 'begun' } @begun), 0, '... whole';
	is scalar(grep { @{$db->load($_)->{history}} != 4 } @begun), 0, '... with its history' or note explain [map { scalar @{$db->load($_)->{history}} } @begun[0 .. 3]];
	is count('parley.messages', q{user_id LIKE 'race%' AND NOT EXISTS (SELECT FROM parley.conversations c WHERE c.user_id = messages.user_id)}), 0,
	    'no message without its conversation';
};

subtest 'in small pieces' => sub {
	# A conversation that somebody holds is not waited for, and holds up no other.
	my @old = map { old("held$_", 400) } 1 .. 60;
	my $dbh = $pg->dbh;
	$dbh->begin_work;
	$dbh->do('SELECT FROM parley.conversations WHERE id = ? FOR UPDATE', undef, $old[0]{conversation_id});
	my $since = time;
	my ($n) = prune('--older-than', '365d');
	cmp_ok time - $since, '<', 10, 'it does not wait';
	is $n->{'parley.conversations'}, 59, '... all others went';
	$dbh->rollback;
	is +(prune('--older-than', '365d'))[0]{'parley.conversations'}, 1, '... and later that one';
};

# As the role of an operator who is no superuser, and with a single role.
subtest 'who may' => sub {
	$pg->do('CREATE ROLE janitor LOGIN IN ROLE parley_ops');
	old('last', 400);
	my ($status, $out, $err) = Parley::Ctl->new($pg, 'database.ops_url' => $pg->url('janitor'))->run('prune', '--older-than', '365d');
	is $status, 0, 'a member of parley_ops' or diag $err;
	like $out, qr/^parley\.conversations +1 deleted/m, '... may';
	($status, $out, $err) = Parley::Ctl->new($pg, 'database.ops_url' => $pg->url('parley_worker'))->run('prune', '--older-than', '365d');
	is "$status $out", '1 ', 'the worker may not';

	$pg->do('CREATE ROLE one LOGIN', 'postgres');
	$pg->do('CREATE DATABASE single', 'postgres');
	$pg->do('GRANT CREATE ON DATABASE single TO one', 'postgres');
	my $one = $pg->url('one', 'single');
	my $single = Parley::Ctl->new($pg, 'database.url' => $one, 'database.ops_url' => undef);
	($status, $out) = $single->run('migrate', '--single-role', '--schema', "$FindBin::Bin/../schema");
	is $status, 0, 'a single role' or diag $out;
	($status, $out) = $single->run('tools', 'call', 'add_task', '{"title":"x"}', '--user', 'ann');
	my $dbh = $pg->dbh('postgres', 'single');
	$dbh->do(q{INSERT INTO parley.conversations SELECT u, gen_random_uuid(), 't', 0, now(), now() - interval '400 days' FROM unnest('{ann,bob}'::text[]) u});
	($status, $out, $err) = $single->run('stats');
	is $status, 0, 'stats' or diag $err;
	($status, $out, $err) = $single->run('user', 'export', 'ann');
	is $status, 0, 'export' or diag $err;
	unlike $out, qr/bob/, '... of that user alone';
	($status, $out, $err) = $single->run('user', 'erase', '--yes', 'ann');
	is $status, 0, 'erase' or diag $err;
	is $dbh->selectrow_array('SELECT count(*) FROM parley.conversations'), 1, '... of that user alone';
	($status, $out, $err) = $single->run('prune', '--older-than', '365d');
	like "$status $out", qr/^0 parley\.conversations +1 deleted/, 'prune' or diag $err;
	($status, $out) = $single->run('check', '--no-model', '--schema', "$FindBin::Bin/../schema");
	unlike $out, qr/^FAIL (?:database|tools)/m, 'check' or diag $out;
};

done_testing;
