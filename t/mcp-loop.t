# Round the loop: a pool without SQL tools has them over /mcp from another pool, as the user who asks: the same rows as direct.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Parley::Contract;
use Parley::Test;

binmode Test::More->builder->$_, ':utf8' for qw(output failure_output todo_output);

my $pg = Parley::Postgres->new;
# Whether the user is asked first is not what this is about.
$pg->psql(q{DO $$ BEGIN EXECUTE (SELECT format('COMMENT ON FUNCTION %s IS %L', f, regexp_replace(obj_description(f, 'pg_proc'), '^@confirm.*$', '', 'n'))
    FROM (SELECT oid::regprocedure AS f FROM pg_proc WHERE proname = 'delete_task') p); END $$});
my $model = Parley::Model->new(scripts => {});
my $direct = Parley::Test->new(pg => $pg, model => $model, workers => 1);
my $tools = Parley::Test->new(pg => $pg, model => $model, workers => 1, conf => { 'api.serve' => 'mcp' }, wait => 0);
ok Parley::Process::wait_for(sub { my $r = eval { $tools->post('/mcp', { jsonrpc => '2.0', id => 1, method => 'ping' }) };
    $r && $r->{status} == 200 }, 20), 'the pool that serves tools';
my $loop = Parley::Test->new(pg => $pg, model => $model, workers => 1, conf => {
	'tools.sql' => 'no', 'mcp.self.url' => $tools->url . '/mcp', 'mcp.self.auth' => 'caller' });

my $scripts = 0;
sub script {
	my $name = 'loop-' . ++$scripts;
	$model->script($name, join "---\n", @_);
	return "script:$name";
}

# A turn with one call; what became of it.
sub call {
	my ($t, $user, $tool, $arguments) = @_;
	my $r = $t->chat($user, script(call_reply($tool => $arguments), text_reply('So.')));
	is $r->{status}, 200, "$user: $tool" or diag $r->{body};
	return ($r->{json}{tool_calls} // [])->[0];
}

sub offered {
	my ($t) = @_;
	$t->chat('alice', script(text_reply('Hello.')));
	my ($last) = reverse $model->requests;
	return { map { $_->{function}{name} => $_->{function} } @{$last->{body}{tools}} };
}

# Rows of a user, without times.
sub rows {
	my ($user) = @_;
	return $pg->rows("SELECT id, title, description, status FROM tasks.tasks WHERE user_id = '$user' ORDER BY id");
}

my @five = qw(add_task complete_task delete_task list_tasks update_task);
my $sql = offered($direct);
my $mcp = offered($loop);
is_deeply [sort keys %$sql], \@five, 'direct: five tools';
is_deeply [sort keys %$mcp], [map { "self_$_" } @five], 'round the loop: the same five, and no others';
for (@five) {
	is_deeply $mcp->{"self_$_"}{parameters}, $sql->{$_}{parameters}, "$_: the same schema";
	is $mcp->{"self_$_"}{description}, $sql->{$_}{description}, '... and words';
}

subtest 'the same rows' => sub {
	my @steps = (
		[add_task => { title => 'Milch und Käse', description => 'zwei' }], [add_task => { title => 'Call mum' }],
		[add_task => { title => 'Read' }], [list_tasks => {}], [update_task => { task_id => 2, title => 'Call dad' }],
		[complete_task => { task_id => 1 }], [list_tasks => { status => 'pending' }], [delete_task => { task_id => 3 }],
		[complete_task => { task_id => 99 }], [add_task => { title => '' }], [list_tasks => { status => 'never' }]);
	for (@steps) {
		my ($tool, $arguments) = @$_;
		my $a = call($direct, 'alice', $tool, $arguments);
		my $b = call($loop, 'bob', "self_$tool", $arguments);
		is !!$b->{is_error}, !!$a->{is_error}, '... right or wrong alike';
		like $b->{result}{error}, qr/\w/, '... with words' if $a->{is_error};
		is_deeply same($b->{result}), same($a->{result}), '... with the same result' unless $a->{is_error};
	}
	is_deeply rows('bob'), rows('alice'), 'what there is in the end';
	is scalar(@{rows('bob')}), 2, '... is two tasks';
	is $pg->one(q{SELECT count(*) FROM parley.tool_calls WHERE user_id = 'bob' AND tool_name = 'self_add_task' AND started_at IS NOT NULL}),
	    4, 'calls are recorded as of another server';
	is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id NOT IN ('alice', 'bob')}), 0, 'nobody else has got anything';
};

# Times are the one difference.
sub same {
	my ($value) = @_;
	return { map { $_ => /_at$/ ? defined $value->{$_} : same($value->{$_}) } keys %$value } if ref $value eq 'HASH';
	return [map { same($_) } @$value] if ref $value eq 'ARRAY';
	return $value;
}

subtest 'what is switched off' => sub {
	my $c = call($loop, 'bob', 'add_task', { title => 'direct' });
	ok $c->{is_error}, 'the name of an SQL tool';
	like $c->{result}{error}, qr/no tool of this name/, '... is not there';
	my $r = $loop->post('/mcp', { jsonrpc => '2.0', id => 1, method => 'tools/list' });
	is_deeply $r->{json}{result}{tools}, [], 'nor does that pool give them to others';
	$r = $loop->post('/mcp', { jsonrpc => '2.0', id => 1, method => 'tools/call', params => { name => 'list_tasks' } });
	like $r->{json}{error}{message}, qr/no tool of this name/, '... or do them';
	is scalar(@{rows('bob')}), 2, 'nothing was done';
};

subtest 'the other pool is down' => sub {
	$tools->pool->stop;
	my $c = call($loop, 'bob', 'self_add_task', { title => 'late' });
	ok $c->{is_error}, 'a call';
	like $c->{result}{error}, qr/\w/, '... says why';
	is scalar(@{rows('bob')}), 2, '... and did nothing';
};

is $loop->log_text =~ /eyJ[\w-]+\./ ? 1 : 0, 0, 'no token in the log';
is $pg->one(q{SELECT count(*) FROM parley.mcp_sessions s WHERE s::text ~ 'eyJ'}), 0, '... or in the database';

done_testing;
