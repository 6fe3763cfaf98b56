# Tools of MCP servers that nobody here wrote: the reference server, and a small one on the official SDK, in both eras.
# The packages come by scripts/node-packages.sh (./quickstart test calls it).
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::INET;
use JSON::XS ();
use POSIX ();
use Test::More;

use Parley::Contract;
use Parley::Node;
use Parley::Process;
use Parley::Test;

my $why = Parley::Node::missing();
plan skip_all => $why if $why;
my $folder = Parley::Node::dir();

my $dir = Parley::Process::tempdir();
my @children;

# Not as another user: the packages lie in a folder of this one.
sub node {
	my ($name, $env, @command) = @_;
	my $port = Parley::Process::free_port();
	my $pid = fork // die "fork: $!";
	if ($pid == 0) {
		open STDOUT, '>', "$dir/$name.log";
		open STDERR, '>&', \*STDOUT;
		open STDIN, '<', '/dev/null';
		$ENV{$_} = $env->{$_} eq 'PORT' ? $port : $env->{$_} for keys %$env;
		exec 'setpriv', '--pdeathsig', 'TERM', Parley::Node::program(), map { $_ eq 'PORT' ? $port : $_ } @command or POSIX::_exit(127);
	}
	push @children, $pid;
	Parley::Process::wait_for { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) } 20
	    or die "$name is not ready";
	return "http://127.0.0.1:$port/mcp";
}

END {
	local $?;
	kill 'TERM', @children;
	waitpid $_, 0 for @children;
}

my @small = ("$FindBin::Bin/node/sdk-server.cjs", $folder, 'PORT');
my %url = (
	every => node('every', { PORT => 'PORT' }, "$folder/node_modules/\@modelcontextprotocol/server-everything/dist/index.js",
	    'streamableHttp'),
	both => node('both', {}, @small, 'stateless', 'auto'),
	modern => node('modern', {}, @small, 'reject', 'sse'),
);
my $pg = Parley::Postgres->new;
my $model = Parley::Model->new(scripts => {});
my $t = Parley::Test->new(pg => $pg, model => $model, workers => 1,
    conf => { 'tools.refresh' => '100ms', map { ("mcp.$_.url" => $url{$_}) } keys %url });

my $scripts = 0;
sub script {
	my $name = 'real-' . ++$scripts;
	$model->script($name, join "---\n", @_);
	return "script:$name";
}

sub call {
	my ($tool, $arguments) = @_;
	my $r = $t->chat('alice', script(call_reply($tool => $arguments // {}), text_reply('So.')));
	is $r->{status}, 200, "$tool: the turn is done" or diag $r->{body};
	my ($c) = @{$r->{json}{tool_calls} // []};
	return ($c->{result}, $c->{is_error} ? 1 : 0);
}

$t->chat('alice', script(text_reply('Hello.')));
my ($asked) = reverse $model->requests;
my %tools = map { $_->{function}{name} => $_->{function} } @{$asked->{body}{tools}};
unlike $asked->{body}{messages}[0]{content}, qr/cannot be reached/, 'all servers answer';

subtest 'the reference server' => sub {
	ok $tools{every_echo}, 'its tools are offered' or diag join ' ', sort keys %tools;
	like +(call('every_echo', { message => 'grüße' }))[0], qr/grüße/, 'echo';
	like +(call('every_get-sum', { a => 2, b => 3 }))[0], qr/\b5\b/, 'a sum';
	like +(call('every_get-tiny-image'))[0], qr{\[image, image/png, \d+ bytes, not shown\]}, 'a picture';
	like +(call('every_get-resource-links', { count => 2 }))[0], qr/\[link to /, 'links';
	like +(call('every_get-annotated-message', { messageType => 'error', includeImage => JSON::XS::false }))[0], qr/\w/,
	    'annotated content';
	my ($structured) = call('every_get-structured-content', { location => 'New York' });
	ok ref $structured, 'structured content';
	like +(call('every_trigger-long-running-operation', { duration => 1, steps => 4 }))[0], qr/completed/i, 'one that takes a while';
	my ($r, $error) = call('every_get-sum', { a => 'two', b => 3 });
	ok $error && $r->{error} =~ /\w/, 'wrong arguments';
	is $pg->one(q{SELECT count(*) FROM parley.mcp_sessions WHERE server = 'every' AND session IS NOT NULL}), 1, 'with a session';
};

for my $name (qw(both modern)) {
	subtest "the official SDK: $name" => sub {
		is_deeply [sort grep { /^$name\_/ } keys %tools], [map { "${name}_$_" } qw(add fails region typed)], 'its tools';
		is +(call("${name}_add", { a => 2, b => 40 }))[0], '42', 'a sum';
		is_deeply +(call("${name}_typed"))[0], { n => 3 }, 'an object';
		my ($r, $error) = call("${name}_fails");
		ok $error, 'an error';
		like $r->{error}, qr/out of order/, '... with its words';
		like +(call("${name}_region", { region => 'Köln' }))[0], qr/^Köln/, 'an argument in a header';
		is $pg->one("SELECT value FROM parley.facts WHERE key ~ '^mcp:era:$name'"), '2026-07-28', 'in the new era';
	};
}

subtest 'the SDK in the old era' => sub {
	$pg->dbh('postgres', 'parley')->do(q{UPDATE parley.facts SET value = '2025-11-25' WHERE key ~ '^mcp:era:both'});
	is +(call('both_add', { a => 1, b => 2 }))[0], '3', 'a client of the old era is served';
	is $pg->one(q{SELECT version FROM parley.mcp_sessions WHERE server = 'both'}), '2025-11-25', '... in that';
	$pg->dbh('postgres', 'parley')->do(q{UPDATE parley.facts SET value = '2025-11-25' WHERE key ~ '^mcp:era:modern'});
	is +(call('modern_add', { a => 1, b => 2 }))[0], '3', 'a server that is new alone: found out anew';
	is $pg->one(q{SELECT value FROM parley.facts WHERE key ~ '^mcp:era:modern'}), '2026-07-28', '... and remembered';
};

done_testing;
