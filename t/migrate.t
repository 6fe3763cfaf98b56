# parleyctl migrate: applied once, safe to repeat, from two sides at once, by an owner who is no superuser.

use strict;
use warnings;

use File::Temp;
use FindBin;
use Test::More;
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

my @names = map { s{.*/}{}r } sort glob "$schema/*.sql";
my ($rc, $out) = migrate($pg->url);
is $rc, 0, 'an empty database' or diag $out;
is $out, join('', map { "$_: applied\n" } @names), 'all files, in their order, the numbered ones first';
is $pg->one('SELECT count(*) FROM parley.migrations'), scalar @names, '... are recorded';

($rc, $out) = migrate($pg->url);
is $rc, 0, 'again';
is $out, join('', map { "$_: already there\n" } @names), '... nothing is done';

my $dir = File::Temp->newdir;
system "cp '$schema'/*.sql '$dir'";
system "echo '-- more' >> '$dir/001-core.sql'";
($rc, $out) = migrate($pg->url, $dir);
is $rc, 1, 'a file that was changed after it was applied';
like $out, qr/^001-core\.sql: was changed/, '... is an error that names it';

system "cp '$schema'/001-core.sql '$dir'";
open my $new, '>', "$dir/009-new.sql" or die;
print $new "CREATE TABLE parley.half (a int);\nSELECT nonsense;\n";
close $new;
($rc, $out) = migrate($pg->url, $dir);
is $rc, 1, 'a file that fails';
like $out, qr/^009-new\.sql: ERROR: .*nonsense/m, '... says why';
is $pg->one(q{SELECT to_regclass('parley.half')}), undef, '... and leaves nothing behind';
is $pg->one(q{SELECT count(*) FROM parley.migrations WHERE name LIKE '009%'}), 0;

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
my $worker = $pg->dbh('parley_worker', 'hosted');
is $worker->selectrow_array(q{SELECT outcome FROM parley.turn_begin('u', NULL, gen_random_uuid(), false,
	gen_random_uuid(), 'hi', NULL, '{}', 50, 1000, 1000, 1000)}), 'begun', '... it works';
is_deeply $worker->selectall_arrayref(q{SELECT * FROM parley.pulse(1000, '{u}',
	ARRAY[gen_random_uuid()], '{1}', '{1}', '{NULL}')}), [[1, 'cancelled']], '... and so does the pulse';
is $worker->selectrow_array('SELECT count(*) FROM parley.turns'), 0, '... and isolation';

($rc, $out) = migrate('postgresql://nobody@/x?host=/nowhere');
is $rc, 1, 'no database';
like $out, qr/^cannot connect/, '... is said';
($rc, $out) = migrate($pg->url, '/nowhere');
is $rc, 1, 'no folder';

done_testing;
