# Backup and restore as parley-database(7) has them: forced row level security binds the owner, so who dumps
# matters; what was running when the dump was made is finished by whoever finds it in the copy.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;

use Parley::Contract;
use Parley::Pool;
use Parley::Process;
use Parley::Test;
use Parley::Turns;

my $ctl = Parley::Pool::program('parleyctl');
my $schema = "$FindBin::Bin/../schema";
my $pg = Parley::Postgres->new;
my $model = Parley::Model->new(scripts => {
	slow => join("---\n", call_reply(add_task => { title => 'once' }), text_reply('I ', 60000, 'think.'), text_reply('Here I am.')),
	(map { ("asks-$_" => join("---\n", call_reply(add_task => { title => 'T' }), call_reply(delete_task => { task_id => 1 }), text_reply('Gone.'))) }
	    qw(slow alone)),
	alone => join("---\n", call_reply(add_task => { title => 'once' }), text_reply('I ', 60000, 'think.'), text_reply('Here I am.')),
});
my $dir = Parley::Process::tempdir();
my @TABLES = qw(parley.conversations parley.turns parley.messages parley.tool_calls parley.idempotency_keys
    parley.mcp_sessions parley.feedback parley.facts parley.migrations tasks.tasks tasks.counters);
my %conf = ('turn.lease' => '3s', 'model.retries' => 0);

# A program of PostgreSQL: status and what it said.
sub run {
	my ($program, @args) = @_;
	my $cmd = join ' ', map { (my $arg = $_) =~ s/'/'\\''/g; "'$arg'" } @args;
	my $out = qx{'${\$pg->bindir}/$program' $cmd 2>&1};
	return ($? >> 8, $out);
}
sub ctl {
	my ($url, @args) = @_;
	local @ENV{qw(PARLEY_CONF PARLEY_DATABASE_URL PARLEY_AUTH_SECRET)} = ('/dev/null', $url, $Parley::Test::SECRET);
	return scalar qx{'$ctl' @args --schema '$schema' 2>&1};
}

# All rows of the users, as the superuser sees them.
sub rows_of {
	my ($dbh) = @_;
	return { map { $_ => $dbh->selectcol_arrayref("SELECT x::text FROM $_ x ORDER BY 1") } @TABLES };
}

# A conversation, a question that waits, and a turn that is not over.
sub talks {
	my ($t, $script, $count) = @_;
	my %id = (ann => $t->chat('ann', 'add task: Milk')->{json}{conversation_id});
	my $r = $t->chat('abe', "script:asks-$script")->{json};
	my $c = $t->begin_chat('tom', "script:$script");
	ok wait_for(sub { $count->(q{SELECT count(*) FROM parley.live WHERE user_id = 'tom' AND partial <> ''}) }, 15), 'a turn runs';
	@id{qw(abe call c)} = ($r->{conversation_id}, $r->{approvals_required}[0]{id}, $c);
	$id{tom} = $count->(q{SELECT conversation_id FROM parley.turns WHERE user_id = 'tom'});
	return %id;
}

sub goes_on {
	my ($t, $count, %id) = @_;
	my $r = turn($t, 'tom', $id{tom}, 1, 30)->{json};
	is "$r->{status} $r->{response}", 'success Here I am.', 'the turn that ran is finished here' or diag $t->log_text;
	is $count->(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'tom'}), 1, '... its tool has run once';
	$r = $t->post('/api/chat', { conversation_id => $id{abe}, approvals => { $id{call} => JSON::XS::true } }, user => 'abe');
	is $r->{json}{response}, 'Gone.', 'the question is answered' or diag $r->{body};
	like $t->chat('ann', 'show my tasks', conversation_id => $id{ann})->{json}{response}, qr/Milk/, 'the conversation goes on';
	is $t->get("/api/conversations/$id{ann}", user => 'abe')->{status}, 404, '... for its user alone';
}

subtest 'five roles' => sub {
	my $t = Parley::Test->new(pg => $pg, model => $model, workers => 1, conf => \%conf);
	my %id = talks($t, 'slow', sub { $pg->one(@_) });

	my ($rc, $out) = run('pg_dump', '-d', $pg->url, '--role=parley_owner', '-t', 'parley.messages', '-f', "$dir/none.sql");
	isnt $rc, 0, 'as the owner';
	like $out, qr/affected by row-level security/, '... it fails, rather than to dump a part';
	($rc, $out) = run('pg_dump', '-d', $pg->url, '--role=parley_owner', '--enable-row-security', '--data-only',
	    '-t', 'parley.messages', '-f', "$dir/none.sql");
	is $rc, 0, 'made to';
	unlike do { local (@ARGV, $/) = "$dir/none.sql"; <> }, qr/Milk/, '... it has dumped nothing';

	$pg->do('CREATE ROLE parley_backup LOGIN BYPASSRLS IN ROLE pg_read_all_data', 'postgres');
	my $before = rows_of($pg->dbh);
	($rc, $out) = run('pg_dump', '-d', $pg->url('parley_backup'), '-Fc', '-C', '--no-unlogged-table-data', '-f', "$dir/parley.dump");
	is $rc, 0, 'as a role that it does not bind' or diag $out;
	($rc, $out) = run('pg_dumpall', '-d', $pg->url, '--roles-only', '-f', "$dir/roles.sql");
	is $rc, 0, 'and the roles' or diag $out;
	undef $t;

	my $new = Parley::Postgres->new(migrate => 0);
	$new->do('DROP DATABASE parley', 'postgres');
	# The one who restores is there already, which is all that may go wrong.
	(undef, $out) = run('psql', '-X', '-q', '-d', $new->url('postgres', 'postgres'), '-f', "$dir/roles.sql");
	is_deeply [grep { !/role "postgres" already exists/ } split /\n/, $out], [], 'roles';
	($rc, $out) = run('pg_restore', '-C', '-d', $new->url('postgres', 'postgres'), "$dir/parley.dump");
	is $rc, 0, 'restored' or diag $out;
	is_deeply rows_of($new->dbh), $before, '... to the last row';
	is $new->one('SELECT count(*) FROM parley.live'), 0, '... but for the leases';
	is $new->dbh('parley_worker')->selectrow_array('SHOW statement_timeout'), '10s', 'the settings of the role as well';
	unlike ctl($new->url, 'migrate'), qr/: applied|ERROR/, 'migrate finds nothing to do';
	unlike ctl($new->url('parley_worker'), 'check'), qr/^FAIL (?:database|tools)/m, 'check nothing wrong';
	goes_on(Parley::Test->new(pg => $new, model => $model, workers => 1, conf => \%conf), sub { $new->one(@_) }, %id);

	# Where nobody may have BYPASSRLS: what the manual says, as it stands there.
	my $manual = do { local (@ARGV, $/) = "$FindBin::Bin/../man/parley-database.7"; <> };
	my ($policies) = $manual =~ /^(CREATE ROLE parley_backup LOGIN;\n.*?)^\.Ed$/ms;
	$policies =~ s/\\e/\\/g;
	($rc, $out) = $new->psql('DROP ROLE parley_backup; ' . $policies);
	is $rc, 0, 'policies for a backup' or diag $out;
	$before = rows_of($new->dbh);
	($rc, $out) = run('pg_dump', '-d', $new->url('parley_backup'), '-Fc', '--enable-row-security', '-f', "$dir/policy.dump");
	is $rc, 0, '... a dump' or diag $out;
	$new->do('CREATE DATABASE third', 'postgres');
	($rc, $out) = run('pg_restore', '-d', $new->url('postgres', 'third'), "$dir/policy.dump");
	is $rc, 0, '... restored' or diag $out;
	is_deeply rows_of($new->dbh('postgres', 'third')), $before, '... to the last row';

	# Under another name the database has no settings.
	$new->do('CREATE DATABASE other', 'postgres');
	($rc, $out) = run('pg_restore', '-d', $new->url('postgres', 'other'), "$dir/parley.dump");
	is $rc, 0, 'under another name' or diag $out;
	my $timeout = sub { $new->dbh('parley_worker', 'other')->selectrow_array('SHOW statement_timeout') };
	is $timeout->(), '0', '... the settings are lost';
	like ctl($new->url('parley_worker', 'other'), 'check'), qr/^FAIL database: .* no statement_timeout .*parleyctl migrate/m, '... check says so';
	ctl($new->url('postgres', 'other'), 'migrate');
	is $timeout->(), '10s', '... until migrate';
};

subtest 'a single role' => sub {
	$pg->do("CREATE ROLE $_ LOGIN", 'postgres') for qw(one two);
	for (qw(one two)) {
		$pg->do("CREATE DATABASE db_$_", 'postgres');
		$pg->do("GRANT CREATE ON DATABASE db_$_ TO $_", 'postgres');
	}
	my ($from, $to) = map { $pg->url($_, "db_$_") } qw(one two);
	unlike ctl($from, 'migrate', '--single-role'), qr/ERROR/, 'a database';
	my $super = $pg->dbh('postgres', 'db_one');
	my $t = Parley::Test->new(pg => $pg, model => $model, workers => 1, conf => { %conf, 'database.url' => $from });
	my %id = talks($t, 'alone', sub { scalar $super->selectrow_array(@_) });

	my ($rc, $out) = run('pg_dump', '-d', $from, '-f', "$dir/none.sql");
	like $out, qr/affected by row-level security/, 'pg_dump refuses';
	my $before = rows_of($super);
	my @how = ('-Fc', '--enable-row-security', '--no-owner', '--no-privileges', '--no-unlogged-table-data', '-n', 'parley', '-n', 'tools', '-n', 'tasks');
	{
		local $ENV{PGOPTIONS} = '-c parley.backup=on';
		($rc, $out) = run('pg_dump', '-d', $from, @how, '-f', "$dir/single.dump");
	}
	is $rc, 0, '... unless it is told' or diag $out;
	undef $t;
	($rc, $out) = run('pg_restore', '-d', $to, '--no-owner', '--no-privileges', "$dir/single.dump");
	is $rc, 0, 'restored, as another role' or diag $out;
	my $copy = $pg->dbh('postgres', 'db_two');
	is_deeply rows_of($copy), $before, '... to the last row';
	my $said = ctl($to, 'migrate');
	unlike $said, qr/: applied|ERROR/, 'migrate knows the way it was made' or diag $said;
	my $two = $pg->dbh('two', 'db_two');
	is $two->selectrow_array('SHOW statement_timeout'), '10s', '... and sets what the role lacks';
	is $two->selectrow_array('SELECT count(*) FROM parley.messages'), 0, 'nobody sees anything without a user';
	unlike ctl($to, 'check'), qr/^FAIL (?:database|tools)/m, 'check finds nothing wrong';
	goes_on(Parley::Test->new(pg => $pg, model => $model, workers => 1, conf => { %conf, 'database.url' => $to }),
	    sub { scalar $copy->selectrow_array(@_) }, %id);
};

done_testing;
