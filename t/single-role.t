# One ordinary role and nothing else, as shared hosting gives it: parleyctl migrate --single-role, whole turns, and
# users kept apart all the same.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use File::Temp;
use JSON::XS ();
use Test::More;

use Parley::Contract;
use Parley::Pool;
use Parley::Test;
use Parley::Turns;

my $ctl = Parley::Pool::program('parleyctl');
my $schema = "$FindBin::Bin/../schema";
my $pg = Parley::Postgres->new;
# What a form of a hosting company makes of a wish; in addresses it is written with percent signs.
my ($ROLE, $DB) = (q{u42-"chat" o'h%s}, 'u42-db é');
my ($role, $db) = map { s/([^a-z0-9-])/sprintf '%%%02X', ord $1/ger } map { my $b = $_; utf8::encode($b); $b } $ROLE, $DB;
(my $ident = $ROLE) =~ s/"/""/g;
$pg->do(qq{CREATE ROLE "$ident" LOGIN}, 'postgres');
for my $name ($DB, 'old', 'other') {
	$pg->do(qq{CREATE DATABASE "$name"}, 'postgres');
	$pg->do(qq{GRANT CREATE ON DATABASE "$name" TO "$ident"}, 'postgres');
}
my $url = $pg->url($role, $db);

# Status and what was said.
sub ctl {
	my ($url, @args) = @_;
	local $ENV{PARLEY_CONF} = '/dev/null';
	local $ENV{PARLEY_DATABASE_URL} = $url;
	local $ENV{PARLEY_AUTH_SECRET} = $Parley::Test::SECRET;
	delete local @ENV{grep { /^(PG|DATABASE_URL)/ } keys %ENV};
	my $out = qx{'$ctl' @args 2>&1};
	utf8::decode($out);
	return ($? >> 8, $out);
}
sub migrate { my ($url, $dir, @more) = @_; return ctl($url, 'migrate', @more, '--schema', "'$dir'") }

subtest 'migrate' => sub {
	my @before = map { $_->{rolname} } @{$pg->rows('SELECT rolname FROM pg_roles ORDER BY 1')};
	my ($rc, $out) = migrate($url, $schema);
	is $rc, 1, 'without the option';
	like $out, qr/^001-core\.sql: ERROR: .*^Run this as .* --single-role\.$/ms, '... it says what to do';
	($rc, $out) = migrate($url, $schema, '--single-role');
	is $rc, 0, 'with it' or diag $out;
	unlike $out, qr/already/, '... all files are applied';
	($rc, $out) = migrate($url, $schema, '--single-role');
	is $rc, 0, 'twice';
	unlike $out, qr/applied/, '... nothing is done';
	($rc, $out) = migrate($url, $schema);
	is $rc, 0, 'and without the option';
	unlike $out, qr/applied/, '... neither';
	is_deeply [map { $_->{rolname} } @{$pg->rows('SELECT rolname FROM pg_roles ORDER BY 1')}], \@before, 'no role was made';
	($rc, $out) = migrate($pg->url('postgres', $db), $schema);
	is $rc, 1, 'as somebody else';
	like $out, qr/single role: run this as "\Q$ident\E", not as postgres/, '... is refused';
	($rc, $out) = migrate($pg->url, $schema, '--single-role');
	is $rc, 1, 'a database with five roles';
	like $out, qr/made with five roles/, '... stays so';
	($rc, $out) = migrate($pg->url('postgres', 'other'), $schema, '--single-role');
	is $rc, 1, 'a superuser';
	like $out, qr/^row level security does not bind postgres/, '... is no single role';
};

sub as_role { return $pg->dbh($ROLE, $_[0] // "'$DB'") }
my $super = $pg->dbh('postgres', "'$DB'");
my $me = as_role();
sub value { my ($dbh, $sql, @bind) = @_; return scalar $dbh->selectrow_array($sql, undef, @bind) }

subtest 'what is there' => sub {
	is_deeply $super->selectcol_arrayref(q{SELECT c.oid::regclass FROM pg_class c
	    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'user_id'
	    WHERE c.relnamespace::regnamespace::text IN ('parley', 'tasks', 'tools') AND c.relkind = 'r'
	      AND NOT (c.relrowsecurity AND c.relforcerowsecurity)}), [], 'row level security is forced on every table of users';
	is_deeply $super->selectcol_arrayref(q{SELECT tablename || '.' || policyname FROM pg_policies
	    WHERE policyname NOT IN ('own_rows', 'backup_reads') AND (coalesce(qual, 'search_path pg_parley') !~ 'search_path.*pg_parley'
	       OR coalesce(with_check, 'search_path pg_parley') !~ 'search_path.*pg_parley')}), [],
	    'what was for one role alone is so for the functions that cross users';
	is_deeply $super->selectcol_arrayref(q{SELECT oid::regprocedure FROM pg_proc WHERE 'search_path=pg_catalog, pg_temp, pg_parley' = ANY (proconfig)
	    ORDER BY 1::text}), $pg->dbh->selectcol_arrayref(q{SELECT oid::regprocedure FROM pg_proc
	    WHERE proowner IN ('parley_pulse'::regrole, 'parley_ops'::regrole) ORDER BY 1::text}),
	    '... and those are the ones that belong to such roles where there are five';
	is_deeply $super->selectcol_arrayref(q{SELECT proname FROM pg_proc WHERE prosecdef AND proowner = 'postgres'::regrole
	    AND pronamespace = 'parley'::regnamespace}), [], 'the functions are its own';
	is value($super, q{SELECT count(*) FROM pg_shdepend WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
	    AND deptype = 'r'}), 0, 'no policy names a role';
	is value($me, 'SHOW statement_timeout'), '10s', 'its statements have a timeout';
	is value($me, 'SHOW enable_seqscan'), 'off', '... and its plans what they need';
};

my $hang = "hang\n";
my $model = Parley::Model->new(scripts => {
	deletes => join("---\n", call_reply(delete_task => { task_id => 1 }), text_reply('Gone.')),
	thinks => join("---\n", call_reply(add_task => { title => 'Once' }), $hang, text_reply('Here I am.')),
	slow => text_reply('One, ', 300, 'two.'),
	sly => join("---\n", call_reply(look => {}, all_tasks => {}, as_ann => {}), text_reply('Seen.')),
});
$me->do($_) for q{CREATE FUNCTION tools.look() RETURNS SETOF text LANGUAGE sql STABLE AS 'SELECT content FROM parley.messages'},
    q{CREATE FUNCTION tools.all_tasks() RETURNS SETOF text LANGUAGE sql STABLE AS 'SELECT title FROM tasks.tasks'},
    q{CREATE FUNCTION tools.as_ann() RETURNS bigint LANGUAGE plpgsql AS $$
	BEGIN
		UPDATE tasks.tasks SET title = 'stolen' WHERE user_id = 'ann';
		RETURN (SELECT count(*) FROM tasks.tasks WHERE title = 'stolen');
	END $$};
my %conf = ('database.url' => $url, 'turn.lease' => '3s', 'model.retries' => 0);
my $t = Parley::Test->new(pg => $pg, model => $model, workers => 1, conf => \%conf);
my $other = beside($t, conf => \%conf);
my $true = JSON::XS::true;

subtest 'turns' => sub {
	like $t->log_text, qr/"event": ?"role".*owns the schema/, 'the worker says what it thinks of such a role';
	my $r = $t->chat('ann', 'add task: Milk');
	is $r->{status}, 200, 'a turn with a tool' or diag $r->{body}, $t->log_text;
	body_ok($r->{json}, 'its body');
	my $id = $r->{json}{conversation_id};
	like $t->chat('ann', 'show my tasks', conversation_id => $id)->{json}{response}, qr/Milk/, 'the next knows of it';
	my @e = $t->stream('ann', 'script:slow', conversation_id => $id);
	is stream_ok('a stream', @e)->{response}, 'One, two.', '... whole';
	$r = $t->chat('ann', 'script:deletes', conversation_id => $id);
	is $r->{json}{status}, 'approval_required', 'a question';
	my $q = $r->{json}{approvals_required}[0];
	is $q->{question}, 'Delete the task "Milk"?', '... in the words of the tool';
	$r = $other->post('/api/chat', { conversation_id => $id, approvals => { $q->{id} => $true } }, user => 'ann');
	is $r->{json}{response}, 'Gone.', '... answered' or diag $r->{body};
	is value($super, q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'ann'}), 0, '... and done';
	$r = $t->get('/api/conversations', user => 'ann');
	is scalar @{$r->{json}{conversations}}, 1, 'the list';
	my ($key) = ('k-1');
	my @same = map { $t->post('/api/chat', { message => 'hello' }, user => 'kim', headers => { 'Idempotency-Key' => $key }) } 1, 2;
	is $same[0]{json}{conversation_id}, $same[1]{json}{conversation_id}, 'the same key, the same turn';
};

subtest 'takeover' => sub {
	my $c = $t->begin_chat('tom', 'script:thinks');
	ok wait_for(sub { (grep { ($_->{script} // '') eq 'thinks' } $model->requests) >= 2 }, 15), 'a turn hangs';
	ok wait_for(sub { value($super, q{SELECT count(*) FROM parley.live WHERE user_id = 'tom'}) }, 10), '... with a lease';
	$t->kill_worker;
	my $id = value($super, q{SELECT conversation_id FROM parley.turns WHERE user_id = 'tom'});
	my $r = turn($other, 'tom', $id, 1, 20)->{json};
	is "$r->{status} $r->{response}", 'success Here I am.', 'another worker finishes it' or diag $other->log_text;
	is value($super, q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'tom'}), 1, 'its tool ran once';
	$t->ready;
};

# Every table with rows of users.
my @tables = @{$super->selectcol_arrayref(q{SELECT c.oid::regclass::text FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'user_id'
    WHERE c.relnamespace::regnamespace::text IN ('parley', 'tasks') AND c.relkind = 'r' ORDER BY 1})};

subtest 'isolation, asked as the role' => sub {
	$t->chat('ann', 'add task: secret of ann');
	$t->chat('bob', 'add task: secret of bob');
	$super->do(q{INSERT INTO parley.live (user_id, conversation_id, turn, fence, lease_until) VALUES
	    ('ann', gen_random_uuid(), 1, 1, now()), ('bob', gen_random_uuid(), 1, 1, now())});
	for my $user (undef, '', 'bob', 'nobody') {
		my $dbh = as_role();
		my $name = defined $user ? "user '$user'" : 'no user';
		$dbh->do(q{SELECT set_config('parley.user_id', ?, false)}, undef, $user) if defined $user;
		my @seen = map { my $x = $_; map { "$x $_" } @{$dbh->selectcol_arrayref(
		    "SELECT DISTINCT user_id FROM $x WHERE user_id IS DISTINCT FROM ?", undef, $user)} } @tables;
		is_deeply \@seen, [], "$name: no row of others";
		is $dbh->do("UPDATE $_ SET user_id = user_id WHERE user_id = 'ann'") + 0, 0, "... none of $_ to change" for @tables;
		is $dbh->do("DELETE FROM $_ WHERE user_id = 'ann'") + 0, 0, "... none of $_ to delete" for @tables;
		ok !eval { $dbh->do(q{INSERT INTO parley.conversations VALUES ('ann', gen_random_uuid(), 'x', 0, now(), now())}); 1 },
		    '... and none to add';
		like $@, qr/row-level security policy/, '... by the rules';
	}
	my $dbh = as_role();
	$dbh->do(q{SET parley.user_id = 'bob'});
	is_deeply $dbh->selectcol_arrayref('SELECT DISTINCT user_id FROM tasks.tasks'), ['bob'], 'his own he sees';
};

subtest 'functions that cross users' => sub {
	my $dbh = as_role();
	$super->do(q{UPDATE parley.turns SET state = 'running', ended_at = NULL WHERE user_id IN ('ann', 'bob')
	    AND (user_id, conversation_id, turn) IN (SELECT DISTINCT ON (user_id) user_id, conversation_id, turn FROM parley.turns)});
	$super->do(q{UPDATE parley.turns SET started_at = now() - interval '1 hour' WHERE state = 'running'});
	is value($super, q{SELECT count(DISTINCT user_id) FROM parley.turns WHERE state = 'running'}), 2, 'two turns without a worker';
	$dbh->begin_work;
	$dbh->do('SAVEPOINT s');
	ok !eval { $dbh->do(q{SELECT * FROM parley.turns_expired(1000, -1, true)}); 1 }, 'a call that fails';
	$dbh->do('ROLLBACK TO s');
	is value($dbh, 'SELECT count(*) FROM parley.turns'), 0, '... leaves nothing open';
	$dbh->do(q{SELECT * FROM parley.turns_expired(0, 10, true)});
	is value($dbh, 'SELECT count(*) FROM parley.turns') + value($dbh, 'SELECT count(*) FROM parley.live'), 0, 'nor does one that does its work';
	$dbh->commit;
	is value($dbh, q{SELECT count(DISTINCT user_id) FROM parley.turns_expired(0, 10, false)}), 2, 'it finds the turns of both';
	is value($dbh, 'SELECT count(*) FROM parley.turns'), 0, '... whom nobody else can see';
	ok wait_for(sub { !value($super, q{SELECT count(*) FROM parley.turns WHERE state = 'running'}) }, 20), 'the workers end them';
};

subtest 'the work of operators' => sub {
	my ($rc, $out) = ctl($url, 'stats', '--json');
	is $rc, 0, 'stats' or diag $out;
	like $out, qr/"\Q$_\E"/, "... of $_" for qw(ann bob);
	($rc, $out) = ctl($url, 'user', 'export', 'bob');
	is $rc, 0, 'export' or diag $out;
	like $out, qr/secret of bob/, '... of all there is';
	unlike $out, qr/secret of ann|Milk/, '... of one user';
	($rc, $out) = ctl($url, 'prune', '--older-than', '1d', '--dry-run');
	is $rc, 0, 'prune' or diag $out;
	is value(as_role(), 'SELECT count(*) FROM parley.turns'), 0, 'and nothing is open afterwards';
};

subtest 'tools that forget their conditions' => sub {
	my $r = $t->chat('bob', 'script:sly');
	my @calls = @{$r->{json}{tool_calls}};
	is scalar @calls, 3, 'they run' or diag $r->{body};
	is_deeply $calls[0]{result}, [grep { !/ann/ } @{$calls[0]{result}}], 'messages: those of its user';
	is_deeply $calls[1]{result}, ['secret of bob'], 'tasks: those of its user';
	is $calls[2]{result}, 0, 'and none of others is changed';
	is value($super, q{SELECT count(*) FROM tasks.tasks WHERE title = 'stolen'}), 0, '... in truth';
};

subtest 'check' => sub {
	my ($rc, $out) = ctl($url, 'check', '--schema', "'$schema'");
	unlike $out, qr/^FAIL (?:database|tools)/m, 'nothing is wrong with it' or diag $out;
	like $out, qr/^ok   database: \Q$ROLE\E is the only role.*could switch it off$/m, 'the role could switch the rules off';
	like $out, qr/^ok   tools: single role: they run as .*messages among it$/m, 'tools can read messages of their user';
	like $out, qr/^ok   tools: single role: one that sets parley\.user_id/m, '... and what would reach others';
	like $out, qr/^ok   database: single role: statement_timeout/m, 'what is set on the role';
	for my $sly (q{SET search_path = pg_parley AS 'SELECT 1'}, q{AS $$ SELECT set_config('parley.backup', 'on', true)::int $$}) {
		$me->do("SET check_function_bodies = off; CREATE FUNCTION tools.sly() RETURNS int LANGUAGE sql $sly");
		like +(ctl($url, 'check', '--schema', "'$schema'"))[1], qr/^FAIL tools: tools\.sly names what opens/m, "it finds $sly";
		$me->do('DROP FUNCTION tools.sly()');
	}
	$me->do(q{CREATE FUNCTION tools.definer() RETURNS int SECURITY DEFINER LANGUAGE sql RETURN 1});
	like +(ctl($url, 'check', '--schema', "'$schema'"))[1], qr/^FAIL tools: tools\.definer/m, 'it still looks at tools';
	$me->do('DROP FUNCTION tools.definer()');
};

subtest 'upgrade' => sub {
	my $old = File::Temp->newdir;
	my $text = sub { open my $f, '<', "$schema/$_[0]" or die; local $/; scalar <$f> };
	for my $file (qw(001-core.sql 002-lasting.sql leases.sql tools.sql)) {
		open my $f, '>', "$old/$file" or die;
		print $f $text->($file), $file =~ /^\d/ ? '' : "-- as it was\n";
	}
	# A table of another release, with what a role of ours may see of all.
	my $new = File::Temp->newdir;
	system "cp '$schema'/*.sql '$new/'";
	open my $f, '>', "$new/099-more.sql" or die;
	print $f <<'SQL';
SET LOCAL ROLE parley_owner;
CREATE TABLE parley.more (user_id text PRIMARY KEY, n int);
ALTER TABLE parley.more ENABLE ROW LEVEL SECURITY;
ALTER TABLE parley.more FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON parley.more TO parley_worker USING (user_id = nullif(current_setting('parley.user_id', true), ''));
CREATE POLICY ops_all ON parley.more TO parley_ops, parley_pulse USING (true OR n > 0) WITH CHECK (true);
GRANT SELECT, INSERT ON parley.more TO parley_worker, parley_ops;
REVOKE INSERT ON parley.more FROM parley_ops, parley_worker;
DO $$ BEGIN EXECUTE format('GRANT INSERT ON parley.%I TO parley_ops', 'more'); END $$;
CREATE FUNCTION parley.more_own(p_user text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $f$ BEGIN PERFORM set_config('parley.user_id', p_user, true); RETURN (SELECT count(*) FROM parley.more); END $f$;
CREATE FUNCTION parley.more_count() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'SELECT count(*) FROM parley.more';
RESET ROLE;
ALTER FUNCTION parley.more_count OWNER TO parley_ops;
DO $$ BEGIN
	IF NOT has_function_privilege('parley_ops', 'parley.more_count()', 'EXECUTE') THEN
		RAISE 'nothing';
	END IF;
END $$;
SQL
	close $f;
	my ($rc, $out) = migrate($pg->url($role, 'old'), $old, '--single-role');
	is $rc, 0, 'an earlier release' or diag $out;
	($rc, $out) = migrate($pg->url($role, 'old'), $new);
	is $rc, 0, 'the present one, without the option' or diag $out;
	like $out, qr/^leases\.sql: applied again$/m, '... over it';
	my $o = as_role('old');
	$o->do(qq{SET parley.user_id = '$_'}), $o->do(qq{INSERT INTO parley.more VALUES ('$_', 1)}) for qw(ann bob);
	is value($o, 'SELECT count(*) FROM parley.more'), 1, 'a policy for one role opens nothing';
	is value($o, 'SELECT parley.more_count()'), 2, '... but to the functions it is for';
	is value($o, q{SELECT parley.more_own('ann')}), 1, '... and no others, whoever they run as';
	$o->do(q{SET parley.user_id = ''});
	is value($o, 'SELECT count(*) FROM parley.more'), 0, '... and only as long as they run';
	is value($o, 'SELECT count(*) FROM parley.turns_expired(0, 10, true)'), 0, 'the functions of the present release work';
	($rc, $out) = migrate($pg->url($role, 'old'), $new);
	unlike $out, qr/: applied/, 'and it is there once';
};

subtest 'a role that is not bound' => sub {
	$pg->do(qq{ALTER ROLE "$ident" BYPASSRLS}, 'postgres');
	my $p = Parley::Pool->new(how => 'listen', workers => 1, env => { PARLEY_AUTH_SECRET => $Parley::Test::SECRET },
	    conf => { 'database.url' => $url, 'model.base_url' => $model->url });
	my $pid = $p->parent_pid;
	ok wait_for(sub { waitpid($pid, 1) == $pid }, 20), 'no worker stays';
	is $? >> 8, 3, '... its status says so';
	delete $p->{process}{pid};
	like $p->log_text, qr/is not bound by row level security, as it has BYPASSRLS: set database\.url/, '... and the log why';
	like +(ctl($url, 'check', '--schema', "'$schema'"))[1], qr/^FAIL database: the role .* has BYPASSRLS/m, 'check as well';
	$pg->do(qq{ALTER ROLE "$ident" NOBYPASSRLS}, 'postgres');
};

done_testing;
