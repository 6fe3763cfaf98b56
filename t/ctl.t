# parleyctl as a person uses it.
use strict;
use warnings;

use File::Path qw(make_path);
use FindBin;
use Test::More;
use lib "$FindBin::Bin/lib";

use Parley::Pool;
use Parley::Postgres;

our $ctl = Parley::Pool::program('parleyctl');
my $schema = "$FindBin::Bin/../schema";
my $SECRET = 'a secret of the tests, 32 bytes or more';

delete $ENV{$_} for grep { /^(PARLEY_|PG|OPENAI_|OPENROUTER_|DATABASE_URL|AGENT_MODEL|BETTER_AUTH_SECRET)/ } keys %ENV;
my $dir = Parley::Process::tempdir();

# (exit status, stdout, stderr)
sub ctl {
	my ($env, @words) = @_;
	local %ENV = (%ENV, %$env);
	my $line = join ' ', map { "'$_'" } @words;
	my $out = `'$ctl' $line 2>'$dir/err'`;
	my $status = $? >> 8;
	open my $fh, '<', "$dir/err" or die "$dir/err: $!";
	local $/;
	return ($status, $out, scalar <$fh>);
}

subtest 'the command line' => sub {
	my ($status, $out, $err) = ctl({}, '--help');
	is $status, 0, '--help';
	like $out, qr/^usage: parleyctl.*migrate.*token.*check.*work.*conf/s, 'names the commands';
	($status, $out) = ctl({}, '--version');
	like $out, qr/^parleyctl [0-9.]+$/, '--version';
	for my $words ([], ['nonsense'], ['token'], ['token', 'a', 'b'], ['token', '--ttl', 'x', 'a'], ['token', '--ttl', '0', 'a'],
		['migrate', 'x'], ['check', '--nonsense'], ['conf', 'x'],
		['tools', 'x'], ['tools', '--user', 'x'], ['tools', 'call'], ['tools', 'call', 'list_tasks'],
		['tools', 'call', '--user', 'x'], ['tools', 'call', 'a', '{}', 'b', '--user', 'x']) {
		($status, $out, $err) = ctl({}, @$words);
		is "$status $out", '2 ', "'@$words' is refused";
		like $err, qr/usage:/, '... with the usage';
	}
	for my $word (qw(migrate token tools check stats user prune work conf)) {
		($status, $out, $err) = ctl({}, $word, '--help');
		is "$status $err", '0 ', "$word --help";
		like $out, qr/^usage: parleyctl $word/, '... tells how';
	}
	($status, $out) = ctl({}, 'conf');
	is $status, 0, 'conf';
	like $out, qr/^auth\.jwks_url\t[^\t\n]+\t[^\t\n]*\tPARLEY_AUTH_JWKS_URL/m, 'lists keys with their environment';
};

subtest 'token' => sub {
	my ($status, $out, $err) = ctl({ PARLEY_AUTH_SECRET => $SECRET }, 'token', 'alice', '--ttl', 60);
	is $status, 0, 'a token';
	like $out, qr/^[\w-]+\.[\w-]+\.[\w-]+\n$/, '... alone';
	require MIME::Base64;
	require JSON::XS;
	my $claims = JSON::XS::decode_json(MIME::Base64::decode_base64url((split /\./, $out)[1]));
	is $claims->{sub}, 'alice', '... for that user';
	cmp_ok abs($claims->{exp} - time - 60), '<', 10, '... for that time';
	($status, $out, $err) = ctl({}, 'token', 'alice');
	is "$status $out", '1 ', 'without a secret there is none';
	like $err, qr/auth\.secret_file/, '... and the remedy is named';
	($status, $out, $err) = ctl({ PARLEY_AUTH_SECRET => $SECRET }, 'token', "a\nb");
	is "$status $out", '1 ', 'none for a user that the gate would refuse';
};

my $pg = Parley::Postgres->new(migrate => 0);
my %owner = (PARLEY_DATABASE_OWNER_URL => $pg->url('postgres'));

subtest 'migrate' => sub {
	my ($status, $out, $err) = ctl({}, 'migrate', '--schema', $schema);
	is $status, 1, 'without a database';
	like $err, qr/database/, '... it says so';
	($status, $out, $err) = ctl(\%owner, 'migrate', '--schema', $schema);
	is $status, 0, 'all files' or diag $out, $err;
	is $pg->one(q{SELECT count(*) FROM parley.conversations}), 0, 'the tables are there';
	($status, $out, $err) = ctl(\%owner, 'migrate', '--schema', $schema);
	is $status, 0, 'and again';
};

subtest 'check' => sub {
	my %env = (PARLEY_DATABASE_URL => $pg->url('parley_worker'), PARLEY_AUTH_SECRET => $SECRET,
		PARLEY_MODEL_BASE_URL => 'http://127.0.0.1:1/v1', PARLEY_MODEL_MODEL => 'x');
	my ($status, $out) = ctl(\%env, 'check', '--schema', $schema);
	is $status, 1, 'a model that is not there';
	is_deeply [grep { /^FAIL/ && !/^FAIL model: .* cannot be reached .*: correct/ } split /^/, $out], [], '... and nothing else' or diag $out;
	make_path("$dir/moved/bin", "$dir/moved/share/parley");
	system "cp '$ctl' '$dir/moved/bin/parleyctl' && cp -r '$schema' '$dir/moved/share/parley/schema'";
	{
		local $ctl = "$dir/moved/bin/parleyctl";
		($status, $out) = ctl(\%env, 'check');
		unlike $out, qr/^FAIL database/m, 'an installed tree that was moved finds its files' or diag $out;
	}
	($status, $out) = ctl({ %env, PARLEY_DATABASE_URL => $pg->url('postgres') }, 'check', '--schema', $schema);
	like $out, qr/^FAIL database: .*superuser/m, 'a superuser';
	($status, $out) = ctl({ %env, PARLEY_DATABASE_URL => 'host=/nowhere dbname=x' }, 'check');
	like $out, qr/^FAIL database: .*: correct/m, 'no database';
	($status, $out) = ctl({ %env, PARLEY_AUTH_JWKS_URL => 'http://127.0.0.1:1/jwks' }, 'check');
	like $out, qr/^FAIL auth: .*cannot be fetched/m, 'no issuer';
	($status, $out) = ctl({ %env, PARLEY_AUTH_JWKS_FILE => "$dir/err" }, 'check');
	like $out, qr/^FAIL auth: .*no JWK set/m, 'a file that holds no keys';
	($status, $out) = ctl({ %env, PARLEY_AUTH_SECRET => 'short' }, 'check');
	like $out, qr/^FAIL configuration: /m, 'a configuration that cannot be read';
	unlike $out, qr/short\b(?!er)/, '... whose secret is not shown';
	mkdir "$dir/more";
	system "cp '$schema'/*.sql '$dir/more/' && echo 'SELECT 1;' > '$dir/more/099-new.sql'";
	($status, $out) = ctl(\%env, 'check', '--schema', "$dir/more");
	like $out, qr/^FAIL database: 099-new\.sql not applied/m, 'a file that was not applied';
	system "rm '$dir/more/099-new.sql' && echo '-- more' >> '$dir/more/tools.sql'";
	($status, $out) = ctl(\%env, 'check', '--schema', "$dir/more");
	like $out, qr/^FAIL database: tools\.sql not applied/m, 'a file that was applied as it was before';
	($status, $out) = ctl(\%env, 'check', '--schema', "$dir/nowhere");
	like $out, qr/^FAIL database: .*nowhere: No such file/m, 'no such folder';
};

my @as = ({ PARLEY_DATABASE_URL => $pg->url('parley_worker') });

subtest 'tools' => sub {
	my ($status, $out, $err) = ctl(@as, 'tools');
	is $status, 0, 'the table' or diag $err;
	like $out, qr/^NAME +ORIGIN +RISK +CONFIRM +SCHEMA\n/, '... has a head';
	like $out, qr/^list_tasks +sql +read_only +no +\{"type":"object",.*"status"/m, '... what is known of each';
	like $out, qr/^delete_task +sql +writes +yes /m, '... and who is asked before';
	($status, $out) = ctl({ %{$as[0]}, PARLEY_TOOLS_NO_CONFIRM => 'delete_task', PARLEY_TOOLS_IDEMPOTENT => 'delete_task' }, 'tools');
	like $out, qr/^delete_task +sql +idempotent +no /m, '... where the configuration does not know better';
	($status, $out, $err) = ctl({}, 'tools');
	is "$status $out", '1 ', 'without a database';
	like $err, qr/database\.url/, '... it says so';
};

subtest 'tools call' => sub {
	my ($status, $out, $err) = ctl(@as, 'tools', 'call', 'add_task', '{"title":"Call mum"}', '--user', 'ann');
	is $status, 0, 'a call' or diag $err;
	like $out, qr/^\{"task_id" ?: ?1, ?"status" ?: ?"created".*\}\n$/, '... prints the result';
	is $pg->one(q{SELECT user_id FROM tasks.tasks}), 'ann', '... is done, for that user';
	is $pg->one(q{SELECT count(*) FROM parley.tool_calls WHERE user_id = 'ann'}), 1, '... and recorded';
	($status, $out) = ctl(@as, 'tools', '--user', 'bob', 'call', 'list_tasks');
	is $out, qq({"tasks" : []}\n), 'no arguments, another user';
	($status, $out) = ctl(@as, 'tools', 'call', 'delete_task', '{"task_id":9}', '--user', 'ann');
	is $status, 1, 'an error';
	like $out, qr/There is no task 9\./, '... is a result';
	for (['no_such_tool', '{}'], ['add_task', '[]'], ['add_task', '{'], ['add_task', 'null']) {
		($status, $out, $err) = ctl(@as, 'tools', 'call', @$_, '--user', 'ann');
		is "$status $out", '1 ', "@$_";
		like $err, qr/no tool no_such_tool|must be one JSON object: /, '... says why';
	}
};

subtest 'check finds tools that undo the isolation' => sub {
	my $check = sub { (ctl({ @as ? %{$as[0]} : (), PARLEY_AUTH_SECRET => $SECRET }, 'check', '--schema', $schema))[1] };
	like $check->(), qr/^ok   tools: /m, 'ours do not';
	my $make = sub { "SET check_function_bodies = off; CREATE FUNCTION tools.sly() RETURNS text $_[0]" };
	my $plain = $make->(q{LANGUAGE sql AS $$ SELECT 'x' $$});
	my %bad = (
		'SECURITY DEFINER' => $make->(q{SECURITY DEFINER LANGUAGE sql AS $$ SELECT 'x' $$}),
		'belongs to' => $plain . '; ALTER FUNCTION tools.sly OWNER TO parley_worker',
		'belongs to a' => $plain . '; ALTER FUNCTION tools.sly OWNER TO parley_tool',
		'sets the role' => $make->(q{LANGUAGE sql SET role = 'parley_worker' AS $$ SELECT 'x' $$}),
		'sets the role or' => $make->(q{LANGUAGE sql SET parley.user_id = 'bob' AS $$ SELECT 'x' $$}),
		'parley.user_id' => $make->(q{LANGUAGE sql AS $$ SELECT set_config('parley.user_id', 'bob', true) $$}),
		'parley.user_id ' => $make->(q{LANGUAGE sql RETURN set_config('parley.user_id', 'bob', true)}),
		'parley.user_id (' => $make->(q{LANGUAGE plpgsql AS $$ BEGIN SET LOCAL parley.user_id = 'bob'; END $$}),
		'role' => $make->(q{LANGUAGE plpgsql AS $$ BEGIN RESET ROLE; RETURN 'x'; END $$}),
		'or parley' => $make->(q{LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'set session authorization bob'; END $$}),
	);
	for my $why (sort keys %bad) {
		my ($failed, $said) = $pg->psql("GRANT CREATE ON SCHEMA tools TO parley_worker, parley_tool; $bad{$why};
		    RESET ROLE; REVOKE CREATE ON SCHEMA tools FROM parley_worker, parley_tool");
		is $failed, 0, $bad{$why} or diag $said;
		like $check->(), qr/^FAIL tools: tools\.sly .*\Q$why\E/m, '... is found';
		$pg->psql('DROP FUNCTION tools.sly');
	}
	$pg->psql('GRANT CREATE ON SCHEMA tools TO parley_tool');
	like $check->(), qr/^FAIL tools: .*REVOKE CREATE/m, 'a schema that tools may write to';
	$pg->psql('REVOKE CREATE ON SCHEMA tools FROM parley_tool');
};

require File::Path;
File::Path::remove_tree($dir);
done_testing;
