# parleyctl migrate: tables once, functions whenever they have changed, all of it or nothing, safe to repeat,
# from two sides at once, by an owner who is no superuser, and while others hold the tables.

use strict;
use warnings;

use File::Temp;
use FindBin;
use Test::More;
use Time::HiRes qw(sleep time);
use lib "$FindBin::Bin/lib";

use Parley::Postgres;

my ($ctl) = grep { defined && -x } $ENV{PARLEYCTL}, './parleyctl', "$FindBin::Bin/../parleyctl";
plan skip_all => 'parleyctl has not been built' unless $ctl;
my $schema = "$FindBin::Bin/../schema";
my $pg = Parley::Postgres->new(migrate => 0);

sub command {
	my ($url, $dir) = @_;
	return "PARLEY_CONF=/dev/null PARLEY_DATABASE_OWNER_URL='$url' '$ctl' migrate --schema '$dir' 2>&1";
}

sub migrate {
	my ($url, $dir) = @_;
	my $out = qx{@{[command($url, $dir // $schema)]}};
	return ($? >> 8, $out);
}

sub said { my ($how, @files) = @_; return join '', map { "$_: $how\n" } @files }

# A folder of the test's own: name => text.
sub folder {
	my (%file) = @_;
	my $dir = File::Temp->newdir;
	add($dir, %file);
	return $dir;
}

sub add {
	my ($dir, %file) = @_;
	for my $name (keys %file) {
		open my $f, '>', "$dir/$name" or die "$name: $!";
		print $f $file{$name};
		close $f;
	}
}

sub slurp { my ($file) = @_; open my $f, '<', $file or die "$file: $!"; local $/; return scalar <$f> }

# All but what is for those who run Citus.
my @names = grep { $_ ne 'citus.sql' } map { s{.*/}{}r } sort glob "$schema/*.sql";
my @numbered = grep { /^\d/ } @names;
my @named = grep { !/^\d/ } @names;
my ($rc, $out) = migrate($pg->url);
is $rc, 0, 'an empty database' or diag $out;
is $out, said('applied', @numbered, @named), 'all files, in their order, the numbered ones first';
is $pg->one('SELECT count(*) FROM parley.migrations'), scalar @names, '... are recorded';

($rc, $out) = migrate($pg->url);
is $rc, 0, 'again';
is $out, said('already there', @names), '... nothing is done';

# All functions over themselves.
sub newer {
	return folder(map { $_ => slurp("$schema/$_") . (/^\d/ ? '' : "\n-- more\n") } @names);
}
($rc, $out) = migrate($pg->url, newer());
is $rc, 0, 'the files named by words, changed' or diag $out;
is $out, said('already there', @numbered) . said('applied again', @named), '... are applied again';

subtest 'a folder of one\'s own' => sub {
	$pg->do('CREATE DATABASE own', 'postgres');
	my $url = $pg->url('postgres', 'own');
	my $db = $pg->dbh('postgres', 'own');
	my $value = sub { scalar $db->selectrow_array($_[0]) };
	my %file = ('001-a.sql' => 'CREATE TABLE a (n int);', '010-b.sql' => 'ALTER TABLE a ADD m int;',
		'words.sql' => "CREATE OR REPLACE FUNCTION word() RETURNS text LANGUAGE sql RETURN 'old';");
	my $dir = folder(%file);
	($rc, $out) = migrate($url, $dir);
	is $out, said('applied', sort keys %file), 'applied';
	my $then = $value->(q{SELECT applied_at FROM parley.migrations WHERE name = 'words.sql'});

	add($dir, 'words.sql' => $file{'words.sql'} =~ s/old/new/r);
	($rc, $out) = migrate($url, $dir);
	is $rc, 0, 'a word that was changed' or diag $out;
	is $out, said('already there', '001-a.sql', '010-b.sql') . said('applied again', 'words.sql'), '... is applied again';
	is $value->('SELECT word()'), 'new', '... in truth';
	isnt $value->(q{SELECT applied_at FROM parley.migrations WHERE name = 'words.sql'}), $then, '... and recorded';
	($rc, $out) = migrate($url, $dir);
	is $out, said('already there', sort keys %file), '... once';

	add($dir, '001-a.sql' => "$file{'001-a.sql'}\n-- more\n", 'words.sql' => $file{'words.sql'});
	($rc, $out) = migrate($url, $dir);
	is $rc, 1, 'a number that was changed';
	is $out, "001-a.sql: was changed after it had been applied; changes belong in a new file\n", '... is an error that names it';
	is $value->('SELECT word()'), 'new', '... and nothing else is done';

	# One that fails takes those before it back, be they new or changed.
	add($dir, %file, '011-c.sql' => 'CREATE TABLE c (n int);', 'xylem.sql' => "CREATE TABLE half (n int);\nSELECT nonsense;\n");
	($rc, $out) = migrate($url, $dir);
	is $rc, 1, 'a file that fails';
	like $out, qr/\Axylem\.sql: ERROR: .*nonsense/, '... says why, and none is said to be applied';
	is $value->(q{SELECT concat(to_regclass('half'), to_regclass('c'), word())}), 'new', '... and leaves nothing behind';
	is $value->('SELECT count(*) FROM parley.migrations'), 3, '... nor in the list';
	unlink "$dir/xylem.sql";
	($rc, $out) = migrate($url, $dir);
	is $out, said('already there', '001-a.sql', '010-b.sql') . said('applied', '011-c.sql') . said('applied again', 'words.sql'),
	    'without it all is well';

	# Somebody reads the table at this moment, and somebody else would like to.
	add($dir, '012-d.sql' => 'ALTER TABLE a ADD l int;');
	$db->begin_work;
	$db->do('SELECT FROM a');
	open my $p, '-|', command($url, $dir) or die;
	my $other = $pg->dbh('postgres', 'own');
	my $until = time + 60;
	sleep 0.02 until time > $until || $other->selectrow_array(q{SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'
		AND relation = 'a'::regclass AND NOT granted});
	$other->do(q{SET statement_timeout = '30s'});
	ok eval { $other->do('SELECT FROM a'); 1 }, 'who waits for a table lets others pass' or diag $@;
	$db->rollback;
	$out = do { local $/; <$p> };
	close $p;
	like $out, qr/^012-d\.sql: applied$/m, '... and has it in the end';
};

# As the first release left it: functions in numbered files, and the tasks under their present name, made plainly.
subtest 'upgrade' => sub {
	$pg->do('CREATE DATABASE upgrade', 'postgres');
	my $url = $pg->url('postgres', 'upgrade');
	my $plain = slurp("$schema/tools-tasks.sql") =~ s/ OR REPLACE| IF NOT EXISTS|^DROP POLICY.*\n//gmr;
	my $old = folder('001-core.sql' => slurp("$schema/001-core.sql"), '004-tools.sql' => slurp("$schema/tools.sql"),
		'tools-tasks.sql' => $plain);
	($rc, $out) = migrate($url, $old);
	is $rc, 0, 'the old files' or diag $out;
	my $add = q{SELECT set_config('parley.user_id', 'u', false), tools.add_task('Milk')};
	my $tool = $pg->dbh('parley_worker', 'upgrade');
	$tool->do('SET ROLE parley_tool');
	$tool->do($add);
	$pg->dbh('postgres', 'upgrade')->do('REVOKE EXECUTE ON FUNCTION tools.delete_task FROM parley_tool');

	($rc, $out) = migrate($url);
	is $rc, 0, 'the new ones over them' or diag $out;
	is $out, said('already there', '001-core.sql') . said('applied', grep { $_ ne '001-core.sql' } @numbered)
	    . said('applied', grep { $_ ne 'tools-tasks.sql' } @named) =~ s/(?=^tools\.sql)/tools-tasks.sql: applied again\n/mr, '... says so';
	$tool->do($add);
	is $tool->selectrow_array('SELECT string_agg(id::text, $$ $$ ORDER BY id) FROM tasks.tasks'), '1 2', 'the tasks have stayed, a new one follows them';
	is $tool->selectrow_array(q{SELECT has_function_privilege('parley_tool', oid, 'EXECUTE') FROM pg_proc WHERE proname = 'delete_task'}), 0,
	    'a tool that was taken from the model stays so';
	$tool->do(q{SET parley.user_id = 'v'});
	is $tool->selectrow_array('SELECT count(*) FROM tasks.tasks'), 0, 'and isolation';
};

# Two databases of one cluster share the roles; two commands share a database.
$pg->do("CREATE DATABASE $_", 'postgres') for qw(two three);
my @running = map { open my $p, '-|', command($pg->url('postgres', $_), $schema) or die; $p } qw(two two three three);
my @out = map { my $p = $_; my $text = do { local $/; <$p> }; close $p; is $?, 0, 'at once' or diag $text; $text } @running;
my $applied = () = "@out" =~ /: applied/g;
is $applied, 2 * @names, 'each file once for each database';

# Shared hosting with a careful administrator: an owner of the database who may make roles, and no more.
$pg->psql('DROP DATABASE two');
$pg->psql('CREATE ROLE hosted LOGIN CREATEROLE');
$pg->do('CREATE DATABASE hosted OWNER hosted', 'postgres');
($rc, $out) = migrate($pg->url('hosted', 'hosted'));
is $rc, 0, 'without a superuser' or diag $out;
($rc, $out) = migrate($pg->url('hosted', 'hosted'), newer());
is $rc, 0, '... and over it' or diag $out;
my $worker = $pg->dbh('parley_worker', 'hosted');
is $worker->selectrow_array(q{SELECT outcome FROM parley.turn_begin('u', NULL, gen_random_uuid(), false,
	gen_random_uuid(), 'hi', NULL, NULL, 'queue', NULL, NULL, false, '{}', 50, 1000, 1000, 10, 10, 0, 0, 0, NULL)}), 'begun', '... it works';
is_deeply $worker->selectall_arrayref(q{SELECT * FROM parley.pulse(1000, '{u}',
	ARRAY[gen_random_uuid()], '{1}', '{1}', '{1}', '{NULL}', '{}', '{}', '{}', '{}', '{}')}), [[0, 1, 'cancelled']], '... and so does the pulse';
is $worker->selectrow_array('SELECT count(*) FROM parley.turns'), 0, '... and isolation';

($rc, $out) = migrate('postgresql://nobody@/x?host=/nowhere');
is $rc, 1, 'no database';
like $out, qr/^cannot connect/, '... is said';
($rc, $out) = migrate($pg->url, '/nowhere');
is $rc, 1, 'no folder';

done_testing;
