# Statements are prepared, and nobody notices: neither a migration meanwhile, nor a session that has lost them.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use Parley::Process;
use Parley::Test;

my $t = Parley::Test->new(workers => 1, how => 'listen', conf => { 'database.connections' => 1 });
my $pg = $t->pg;

# What the server has been told by others shows in its log alone.
sub executed {
	my ($name) = @_;
	open my $fh, '<', $pg->log or die $!;
	return scalar grep { /execute $name: .*parley\.turn_begin/ } <$fh>;
}
$pg->do(q{ALTER ROLE parley_worker SET log_statement = 'all'});
$t->restart_pool;

my $n = 0;
sub turn {
	my ($name) = @_;
	my $r = $t->chat('alice', 'message ' . ++$n);
	is $r->{json}{status}, 'success', $name or diag $r->{body};
}

turn("turn $_") for 1 .. 4;
is executed('<unnamed>'), 1, 'said as it is at first';
is executed('parley_[0-9a-f]{32}'), 3, '... and then by its name, which is a hash of its text';

# A migration meanwhile: the function is another, and then the result of one is of another type.
$pg->psql(<<'SQL', 'postgres');
DO $$ BEGIN EXECUTE replace(pg_get_functiondef('parley.turn_begin'::regproc), 'v_tokens int :=', 'v_other int; v_tokens int :='); END $$;
SQL
turn('after a function was replaced');
is $pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id = 'alice'}), $n, 'each turn once';

sub deletes {
	my ($name) = @_;
	my $id = $t->chat('alice', 'hello')->{json}{conversation_id};
	is $t->delete("/api/conversations/$id", user => 'alice')->{status}, 204, $name;
}
deletes("deleted, $_") for 1 .. 3;
$pg->psql(<<'SQL', 'postgres');
DO $$
DECLARE
	v_text text := replace(pg_get_functiondef('parley.conversation_delete'::regproc), 'RETURNS boolean', 'RETURNS text');
BEGIN
	DROP FUNCTION parley.conversation_delete;
	EXECUTE v_text;
	GRANT EXECUTE ON FUNCTION parley.conversation_delete TO parley_worker;
END
$$;
SQL
deletes('after its result has become another');
deletes("... and again, $_") for 1 .. 3;
is scalar(grep { $_->{level} eq 'error' } $t->log), 0, 'no error in the log';

my $plain = Parley::Test->new(pg => $pg, model => $t->model, workers => 1, how => 'listen', conf => { 'database.prepare' => 'no' });
my $named = executed('parley_[0-9a-f]{32}');
$plain->chat('bob', 'hello') for 1 .. 3;
is executed('parley_[0-9a-f]{32}'), $named, 'database.prepare = no: never by a name';

done_testing;
