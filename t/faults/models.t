# Models that misbehave in every way that is known: each turn ends with an answer or with a failure that says why, what
# was told is what is stored, and the next message of that conversation is served.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use Test::More;
use Time::HiRes qw(time);

use Parley::Contract;
use Parley::Faults;

my $fine = text_reply('Fine ', 'again.');
my $piece = 'data {"choices":[{"index":0,"delta":{"content":"Half "}}]}';
my $body = $fine =~ s/^data (.*)$/data: $1\\n\\n/mgr =~ s/^done\n//mr =~ s/\n//gr;

# name => [the script, how it may end]
my %case = (
	'resets-first' => ["reset\n", qr/^error model_/],
	'resets-first-then-fine' => ["reset\n---\n$fine", qr/^done/],
	'resets-later' => ["$piece\nreset\n", qr/^error model_/],
	'cuts-later' => ["$piece\ncut\n", qr/^error model_|^done/],
	'stalls-first' => ["hang\n", qr/^error model_timeout/],
	'stalls-later' => ["$piece\nhang\n", qr/^error model_timeout/],
	'stalls-then-fine' => ["hang\n---\n$fine", qr/^done|^error model_timeout/],
	'says-429' => ["status 429\nheader Retry-After: 1\nheader Content-Type: application/json\nraw {}\n",
	    qr/^error model_unavailable/],
	'says-500' => ["status 500\nheader Content-Type: application/json\nraw {}\n", qr/^error model_unavailable/],
	'says-500-then-fine' => ["status 500\nheader Content-Type: application/json\nraw {}\n---\n$fine", qr/^done/],
	'says-garbage' => ["garbage \\x00\\x01 what?\n", qr/^error model_/],
	'says-no-json' => ["raw data: {{{\\n\\n\n", qr/^error model_/],
	'never-ends' => ["repeat 100000 $piece\nhang\n", qr/^error (?:model_|turn_timeout)/],
	'drips' => ["header Content-Type: text/event-stream\ndrip 1 $body" . 'data: [DONE]\n\n' . "\n", qr/^done/],
);
my $t = faults_test(scripts => { map { $_ => $case{$_}[0] } keys %case }, conf => {
	'model.first_byte_timeout' => '1500 ms', 'model.idle_timeout' => '1500 ms', 'model.call_timeout' => '5 s',
	'model.retries' => 1, 'model.retry_max' => '1 s', 'turn.deadline' => '12 s', 'model.max_answer' => '64 KiB',
});
my $o = Parley::Observer->new($t, patience => 30);
my %m;

for my $round (1 .. pick(1, 10)) {
	# Not all at the same moment: one that says "not before" holds back all.
	for my $name (grep { !/429/ } sort keys %case) {
		$m{"$name $_ $round"} = $o->say(user => "$name-$_", text => "script:$name please ($round)", stream => $_,
		    key => "$name-$round-$_") for 0, 1;
		$o->run(undef, 0.02);
	}
	is scalar($o->finish(20)), 0, "round $round: everybody has an end";
}
$m{"says-429 $_ 1"} = $o->say(user => "says-429-$_", text => 'script:says-429 please', stream => $_) for 0, 1;
is scalar($o->finish(20)), 0, 'one that says 429: an end';

for my $name (sort keys %m) {
	my ($script, $stream) = split ' ', $name;
	my $got = join ' ', grep { defined } @{$m{$name}}{qw(end code)};
	# Whichever of the two comes first gets the first reply.
	like $got, $case{$script}[1], "$name: $got" or diag explain $m{$name}{body};
	cmp_ok $m{$name}{took}, '<', 14, '... in time' if defined $m{$name}{took};
}

# Nothing holds on: each conversation goes on, with a model that is well.
$o->run(undef, 1.2);
my @next = map { $o->say(user => $_->{user}, text => "hello, are you there? $_->{number}",
    conversation_id => $_->{conversation_id}) } grep { $_->{turn} } values %m;
is scalar($o->finish(20)), 0, 'all go on';
is_deeply [grep { $_->{end} ne 'done' } @next], [], '... well';
quiet_ok($o, $t->pg, 'models', $LEASE + 5);

# One that is not there at all.
my $pid = $t->model->pid;
$t->model->stop;
my $gone = $o->say(user => 'gone', text => 'anybody?');
is scalar($o->finish(20)), 0, 'no model at all: an end';
is $gone->{code}, 'model_unavailable', '... that says so' or diag explain $gone->{body};
quiet_ok($o, $t->pg, 'no model', $LEASE + 5);
is $t->pool->sickness, '', 'the workers were well';
done_testing;
