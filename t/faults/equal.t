# Fifty equal requests with one Idempotency-Key at once, plain and streamed, over all workers: one turn, one answer of
# the model, one effect, and fifty equal answers.  A second time it is the same, without anything new.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use Test::More;
use Time::HiRes qw(time);

use Parley::Contract;
use Parley::Faults;

my $N = 50;
my $t = faults_test(workers => 4, scripts => { thinks => text_reply('One ', 400, 'answer ', 400, 'for all.'),
    torn => "data {}\nreset\n" });
my $pg = $t->pg;
my $o = Parley::Observer->new($t, patience => 20);

for my $round (1 .. pick(1, 10)) {
	for my $case (["script:thinks of round $round", 'done'], [qq(bench:call count_once {"label":"r$round","seconds":0.3}),
	    'done'],
	    ["script:torn of round $round", 'error']) {
		my ($text, $how) = @$case;
		$t->model->clear;
		my ($before) = $pg->one('SELECT count(*) FROM parley.turns');
		for my $again ('at once', 'again') {
			my @m = map { $o->say(user => 'alice', text => $text, key => "round $round " =~ s/ /-/gr . length $text,
			    stream => $_ % 2) } 1 .. $N;
			is scalar($o->finish(20)), 0, "$N times \"$text\" $again: all have an end";
			is_deeply [grep { $_->{end} ne $how } @m], [], "... $how" or diag explain $m[0]{body};
			my %turns = map { ($_->{turn} // '-') . ' ' . ($_->{conversation_id} // '-') => 1 } @m;
			is keys %turns, 1, '... of one turn' or diag explain \%turns;
			my %said = map { ($_->{body}{response} // '') . ($_->{code} // '') => 1 } @m;
			is keys %said, 1, '... that says the same to all' or diag explain \%said;
			is_deeply [grep { $_->{posts} != 1 } @m], [], '... at the first asking';
			my ($max) = sort { $b <=> $a } map { $_->{took} } @m;
			figure sprintf '%d equal requests %s: all answered after %.2f s', $N, $again, $max;
		}
		is $pg->one('SELECT count(*) FROM parley.turns') - $before, 1, 'one turn was stored';
		my @asked = grep { defined $_->{script} } $t->model->requests;
		is @asked, 1, 'the model was asked once' if $text =~ /thinks/;
	}
}
my $r = $t->request('POST', '/api/chat', { message => 'something else' }, user => 'alice',
    headers => { 'Idempotency-Key' => 'round-1-' . length 'script:thinks of round 1' });
error_is($r, 422, 'idempotency_mismatch', 'another body with that key');
quiet_ok($o, $pg, 'equal requests', 5);
is $t->pool->sickness, '', 'the workers were well';
done_testing;
