# Health, and what happens while PostgreSQL is away.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Process;
use Parley::Test;

my $model = Parley::Model->new(scripts => { wait => text_reply('Al', 2000, 'most.') });
my $t = Parley::Test->new(model => $model, conf => { 'database.wait' => '2s' });
my $pg = $t->pg;

sub health { $t->get('/api/health', token => undef) }

my $r = health();
is $r->{status}, 200, 'all is well';
is_deeply [sort keys %{$r->{json}}], [qw(database status version)], 'nothing else is told';
is_deeply [@{$r->{json}}{qw(status database)}], [qw(ok ok)], 'status and database';
like $r->{json}{version}, qr/^\d+\.\d+/, 'version';
is $r->{headers}{'cache-control'}, 'no-store', 'nobody keeps it';
is $t->get('/api/health', token => 'nonsense')->{status}, 200, 'a bad token does not matter';

my $id = $t->chat('alice', 'My name is Ada.')->{json}{conversation_id};
my @pids = sort $t->pids;

# 2 s of waiting, and the machine may be busy.
sub away {
	my ($how) = @_;
	subtest "PostgreSQL is away ($how)" => sub {
		my $since = time;
		my $r = health();
		is $r->{status}, 503, 'health';
		is_deeply [@{$r->{json}}{qw(status database)}], [qw(error unavailable)], '... says what';
		cmp_ok time - $since, '<', 4, '... soon';

		my @ask = (
			[chat => sub { $t->chat('alice', 'Hello') }],
			['chat on' => sub { $t->chat('alice', 'Hello', conversation_id => $id) }],
			['a stream' => sub { $t->post('/api/chat', { message => 'Hello', stream => JSON::XS::true }) }],
			[list => sub { $t->get('/api/conversations') }],
			['read' => sub { $t->get("/api/conversations/$id") }],
			[turn => sub { $t->get("/api/conversations/$id/turns/1") }],
			[rename => sub { $t->patch("/api/conversations/$id", { title => 'x' }) }],
			['delete' => sub { $t->delete("/api/conversations/$id") }],
		);
		for (@ask) {
			my ($name, $code) = @$_;
			$since = time;
			my $r = $code->();
			error_is($r, 503, 'database_unavailable', $name);
			like $r->{headers}{'retry-after'}, qr/^[1-9]\d*$/, '... Retry-After';
			cmp_ok time - $since, '<', 3, '... within 3 s';
			unlike $r->{body}, qr/postgres|socket|connect/i, '... without details';
		}
		error_is($t->post('/api/chat', { message => '' }), 422, 'validation_error', 'what needs no database works');
		error_is($t->get('/api/conversations', token => undef), 401, 'missing_token', '... tokens as well');
	};
}

sub healed {
	my ($how) = @_;
	# Each worker for itself: one that was refused just now leaves the server alone for a moment.
	my $well = 0;
	ok +(Parley::Process::wait_for { ($well = health()->{status} == 200 ? $well + 1 : 0) == 20 } 15), "it heals by itself ($how)";
	for (1 .. 6) {
		my $r = $t->chat('alice', 'What is my name?', conversation_id => $id);
		like $r->{json}{response} // $r->{body}, qr/Ada/, '... and knows what was said';
	}
	is_deeply [sort $t->pids], \@pids, '... the same workers';
}

$pg->stop('fast');
away('stopped');
$pg->start;
healed('stopped');

$pg->stop('immediate');
away('crashed');
$pg->start;
healed('crashed');

# A restart in the middle of a turn costs time, not the turn.
$model->clear;
my $c = $t->begin_chat('alice', 'script:wait', conversation_id => $id);
$model->wait_requests(1);
$pg->restart('fast');
$r = $c->response;
is $r->{status}, 200, 'a restart while the model thinks' or diag $r->{body};
is $r->{json}{response}, 'Almost.', '... is not noticed';
is $pg->one('SELECT state FROM parley.turns WHERE conversation_id = ? AND turn = ?', $id, $r->{json}{turn} // 0), 'done',
    '... and the end is stored';

# Restarted between turns: connections that died are not given to anyone.
$pg->restart('fast');
is $t->chat('alice', 'Hello', conversation_id => $id)->{status}, 200, 'the first turn after a restart' for 1 .. 4;

# The log says what was wrong, with its code and place.
ok scalar(grep { ($_->{error_code} // '') eq 'database_unavailable' && $_->{status} == 503 && $_->{level} eq 'error' &&
    ($_->{at} // '') =~ /^\S+\.c:\d+$/ && length($_->{detail} // '') } $t->log), 'the log has detail and place';
is $t->pool->sickness, '', 'the workers are well';
done_testing;
