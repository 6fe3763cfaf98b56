# Resume: GET …/events from any place, on any worker, for queued, running and ended turns; and ?wait=.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Test;
use Parley::Turns;

binmode Test::More->builder->$_, ':utf8' for qw(output failure_output todo_output);

# An answer that says something before it calls tools.
sub saying { my ($text, $calls) = @_; return text_reply(@$text) =~ s/data [^\n]*finish_reason.*//sr . $calls }

my $tools = join("---\n", saying(['Let me ', 150, 'see. '], call_reply(add_task => { title => 'One' }, list_tasks => {})),
    saying(['Grüße, ', '😀 ', 100, 'first '], call_reply(nothing_like_it => {})), call_reply(list_tasks => {}),
    text_reply(150, 'All ', 150, 'dÖne', 150, ' — 终于.'));
my $model = Parley::Model->new(scripts => {
	(map { ("tools$_" => $tools) } 1 .. 3),
	long => text_reply(map { (60, "piece $_ of 30, größer; ") } 1 .. 30),
	regen => join("---\n", call_reply(list_tasks => {}), text_reply('One ', 50, 'two ', 50, 'three.'),
	    call_reply(list_tasks => {}), text_reply('One ', 50, 'zwei ', 50, 'drei.')),
	quiet => text_reply(1500, 'At last.'),
	calm => text_reply(5000, 'At last.'),
	(map { ("dies$_" => join("---\n", text_reply('Half ', 150, 'an ', 30000, 'answer.'),
	    text_reply('Something ', 300, 'else.'))) } 1 .. 2),
	torn => text_reply('Half ', 'an answer') =~ s/data [^\n]*finish_reason.*/reset\n/sr,
	broken => "status 400\nheader Content-Type: application/json\nraw {\"error\":{\"message\":\"no\"}}\n",
	endless => text_reply('On ', map { (150, "and on $_ ") } 1 .. 200),
});
my %conf = ('model.retries' => 0, 'client.keepalive' => '200 ms', 'turn.lease' => '3s');
my $t = Parley::Test->new(model => $model, workers => 1, conf => \%conf);
my $other = beside($t, conf => \%conf);
my $pg = $t->pg;
my $true = JSON::XS::true;

# What a client knows that has heard the first events of a stream, went away, and then heard the others.
sub joined_ok {
	my ($name, $done, $heard, $more) = @_;
	my (%calls, %results, @bad);

	for (@$heard, @$more) {
		%calls = %results = () if $_->{event} eq 'reset' && !grep { $_->{event} eq 'tool_result' } @$heard;
		$calls{$_->{data}{id}}++ if $_->{event} eq 'tool_call';
		$results{$_->{data}{id}}++ if $_->{event} eq 'tool_result';
	}
	my @ids = map { $_->{id} } @{$done->{tool_calls}};
	push @bad, 'no done' unless @$more && $more->[-1]{event} eq 'done';
	push @bad, 'the text is: ' . said(@$heard, @$more) if said(@$heard, @$more) ne $done->{response};
	push @bad, 'calls' if join(' ', sort keys %calls) ne join(' ', sort @ids) || grep { $_ != 1 } values %calls;
	push @bad, 'results' if join(' ', sort keys %results) ne join(' ', sort @ids) || grep { $_ != 1 } values %results;
	push @bad, 'a queued' if grep { $_->{event} eq 'queued' } @$more;
	my $good = ok !@bad, $name;
	diag join '; ', @bad, 'heard ' . names(@$heard), 'then ' . names(@$more) unless $good;
	return $good;
}

subtest 'a turn that has ended' => sub {
	my @e = $t->stream('ann', 'script:tools1');
	my $done = stream_ok('as it was', @e);
	my ($id, $n) = @$done{qw(conversation_id turn)};
	for my $worker ($t, $other) {
		my $c = follow($worker, 'ann', $id, $n);
		my $head = $c->head;
		is $head->{status}, 200, 'it can be followed';
		like $head->{headers}{'content-type'}, qr{^text/event-stream}, 'Content-Type';
		is $head->{headers}{'cache-control'}, 'no-cache', 'Cache-Control';
		my @all = events($c);
		is names(@all), names(@e), 'all its events';
		is_deeply stream_ok('as it is followed', @all)->{messages}, $done->{messages}, 'done';
		is_deeply $all[0]{data}, $e[0]{data}, 'turn';
		is_deeply [map { $_->{data} } grep { $_->{event} =~ /^tool/ } @all],
		    [map { $_->{data} } grep { $_->{event} =~ /^tool/ } @e], 'calls and results';
	}
	for my $i (0 .. $#e - 1) {
		joined_ok("from event $i, a $e[$i]{event}", $done, [@e[0 .. $i]],
		    [events(follow($i % 2 ? $t : $other, 'ann', $id, $n, $e[$i]{id}))]);
	}
	my @again = events(follow($t, 'ann', $id, $n, $e[-1]{id}));
	is said(@e[0 .. $#e - 1], @again), $done->{response}, 'from its end: nothing new';
	is $again[-1]{event}, 'done', '... but done';

	my @quiet = grep { $_->{event} ne 'turn' } events(follow($t, 'ann', $id, $n, $e[-2]{id}));
	is names(@quiet), 'done', 'what was heard is not said again';
	for my $bad ('x', '1', '0.0.0.0', '9.1.0.0.0', '1.9.0.0.0', '1.1.99999999.0.0', '-1.-1.-1.-1.-1', 'x' x 4000, '1.1.1e9.0.0',
	    '1.1.3.0.zz', '٣.1.1.0.0', (map { $e[-2]{id} =~ s/(\d+)/$1 + $_/er } 1, 7),
	    $e[-2]{id} =~ s/.$/~/r, "$e[-2]{id}x", $e[-2]{id} . '.1') {
		my $bytes = $bad;
		utf8::encode($bytes);
		my @all = events(follow($other, 'ann', $id, $n, $bytes));
		my $name = length $bad > 40 ? 'a long one' : "'$bad'";
		like names(@all), qr/^(?:turn )?reset /, "$name: reset";
		is said({ event => 'delta', data => { text => 'old' } }, @all), $done->{response}, '... and the whole text';
		is $all[-1]{event}, 'done', '... done';
	}
	my @foreign = $t->stream('ann', 'script:tools2');
	my @all = events(follow($other, 'ann', $id, $n, $foreign[5]{id}));
	is said(@foreign[0 .. 5], @all), $done->{response}, 'an id of another turn does no harm';
};

subtest 'a turn that runs: from every event, in the middle' => sub {
	my $c = $t->begin_chat('bob', 'script:tools3', stream => $true);
	my (@e, @back);
	while (my $e = $c->event) {
		push @e, $e;
		# Who goes away now comes back here or there.
		push @back, [scalar @e, follow(@e % 2 ? $other : $t, 'bob', $e[0]{data}{conversation_id}, 1, $e->{id})]
		    if $e->{event} ne 'done';
	}
	my $done = stream_ok('as it was', @e);
	for (@back) {
		my ($heard, $again) = @$_;
		joined_ok("from event $heard, a $e[$heard - 1]{event}", $done, [@e[0 .. $heard - 1]], [events($again)]);
	}
};

subtest 'reload in the middle of an answer' => sub {
	my $c = $t->begin_chat('carl', 'script:long', stream => $true);
	my (@e, @reloads);
	while (my $e = $c->event) {
		push @e, $e;
		push @reloads, map { follow($_, 'carl', $e[0]{data}{conversation_id}, 1) } $t, $other if grep { @e == $_ } 2, 12, 22;
	}
	my $done = stream_ok('who stayed', @e);
	is scalar @reloads, 6, 'six came later';
	for (@reloads) {
		my @f = events($_);
		my $again = stream_ok('who reloaded', @f);
		ok $again->{response} eq $done->{response} && said(@f) eq said(@e), '... has exactly the same text';
	}
};

subtest 'the text of a turn that runs elsewhere is at most a second behind' => sub {
	my $c = $t->begin_chat('cleo', 'script:endless', stream => $true);
	my $id = $c->event->{data}{conversation_id};
	$c->event;
	my $f = follow($other, 'cleo', $id, 1);
	is $f->event->{event}, 'turn', 'turn comes at once';
	my $since = time;
	my $said = '';
	$said .= $f->event->{data}{text} while length $said < 50;
	my $have = '';
	$have .= ($c->event->{data}{text}) while length $have < length($said) - 3;
	cmp_ok time - $since, '<', 4, 'fifty characters come in time';
	is state_of($pg, $id, 1), 'running', '... while it runs';
	cancel($other, 'cleo', $id, 1);
	my @end = events($f);
	is "$end[-1]{event} $end[-1]{data}{status}", 'done cancelled', 'its end comes as well';
	is $said . said(@end), $end[-1]{data}{response}, '... with all of its text';
	events($c);
};

subtest 'a turn that waits' => sub {
	my ($live, $id) = begun($t, 'dora', 'script:quiet');
	my ($c) = begun($t, 'dora', 'My name is Dora', conversation_id => $id, stream => $true);
	my @follow = map { follow($_, 'dora', $id, 2) } $t, $other;
	for (@follow) {
		my @e = events($_);
		is names(@e), 'turn queued delta done', 'its events';
		like stream_ok('who followed it', @e)->{response}, qr/Dora/, '... and its answer';
	}
	my @e = events($c);
	is names(@e), 'turn queued delta done', 'who sent it has the same';
	my ($queued) = grep { $_->{event} eq 'queued' } @e;
	my @again = events(follow($t, 'dora', $id, 2, $queued->{id}));
	is said(@again), $e[-1]{data}{response}, 'from its place in the queue';
};

subtest 'a step that is asked again after its worker died' => sub {
	my ($c, $id) = begun($t, 'eva', 'script:dies1', stream => $true);
	my @e = map { $c->event } 1 .. 3;
	is said(@e), 'Half an ', 'half is said';
	my $f = follow($other, 'eva', $id, 1);
	my @f = map { $f->event } 1 .. 2;
	wait_for { length(speaks($pg, $id) // '') >= 8 };
	$t->kill_worker;
	is $c->event, undef, 'the stream ends without an end';
	my $back = follow($other, 'eva', $id, 1, $e[-1]{id});
	expire($pg, $id);
	push @f, events($f);
	is said(@f), 'Something else.', 'who followed has the new text alone';
	like names(@f), qr/^turn delta reset delta done$/, '... by a reset';
	my @back = events($back);
	like names(@back), qr/^(?:turn )?reset delta done$/, 'who comes back is told as well';
	is said(@e, @back), 'Something else.', '... and has the same';
	stream_ok('a new follower', events(follow($other, 'eva', $id, 1)));
	my @late = events(follow($other, 'eva', $id, 1, $e[-1]{id}));
	is said(@e, @late), 'Something else.', 'who comes back when all is over, too';
	like names(@late), qr/^(?:turn )?reset delta done$/, '... by a reset';
	$t->ready;
};

subtest 'after a retry' => sub {
	my @e = $t->stream('eve', 'script:regen');
	my $id = $e[0]{data}{conversation_id};
	my $b = retry($other, 'eve', $id, 1)->{json};
	is $b->{response}, 'One zwei drei.', 'the answer is another';
	for my $i (0 .. $#e) {
		my @f = events(follow($i % 2 ? $t : $other, 'eve', $id, 1, $e[$i]{id}));
		is said(@e[0 .. $i], @f), $b->{response}, "who had heard the first, to event $i, gets the second";
	}
};

subtest 'a conversation that is deleted' => sub {
	my ($c, $id) = begun($t, 'fay', 'script:endless');
	my ($queued) = begun($t, 'fay', 'Hello', conversation_id => $id);
	my ($stream) = begun($other, 'fay', 'Hello', conversation_id => $id, stream => $true);
	my @follow = map { follow($_, 'fay', $id, 1) } $t, $other;
	my @wait = map { $_->begin('GET', "/api/conversations/$id/turns/1?wait=20", undef, user => 'fay') } $t, $other;
	$_->head for @follow;
	my $since = time;
	is $other->delete("/api/conversations/$id", user => 'fay')->{status}, 204, 'deleted';
	is $c->response->{json}{status}, 'cancelled', 'who waited for the turn is told that it was stopped';
	error_is($_->response, 404, 'turn_not_found', 'who waited for what is gone is told') for $queued, @wait;
	is +(events($_))[-1]{data}{error_code}, 'turn_not_found', 'a stream as well' for $stream, @follow;
	cmp_ok time - $since, '<', 10, '... soon';
};

subtest 'a turn that fails' => sub {
	for my $script (qw(torn broken)) {
		my @e = $t->stream('finn', "script:$script");
		my ($id, $n) = @{$e[0]{data}}{qw(conversation_id turn)};
		my @f = events(follow($other, 'finn', $id, $n));
		is $f[-1]{event}, 'error', "$script: it ends with error";
		is $f[-1]{data}{error_code}, $e[-1]{data}{error_code}, '... the same';
		is $f[-1]{data}{message}, $e[-1]{data}{message}, '... in the same words';
		is_deeply [@{$f[-1]{data}}{qw(status conversation_id turn)}], ['error', $id, $n], '... the body of section 6';
		is said(@f), said(@e), '... after the same text';
	}
	my ($c, $id) = begun($t, 'gina', 'script:quiet', stream => $true);
	my $f = follow($other, 'gina', $id, 1);
	$pg->do(q{UPDATE parley.turns SET deadline = now() WHERE user_id = 'gina'});
	events($c);
	like names(events($f)), qr/^turn .*(?:done|error)$/, 'whatever comes, there is an end';
};

subtest 'silence is filled' => sub {
	my ($c, $id) = begun($t, 'hal', 'script:quiet', stream => $true);
	my @follow = map { follow($_, 'hal', $id, 1) } $t, $other;
	for ($c, @follow) {
		is said(events($_)), 'At last.', 'the answer';
		cmp_ok $_->comments, '>=', 3, '... after comments: ' . $_->comments;
		cmp_ok $_->comments, '<=', 12, '... not too many';
	}
};

subtest '?wait=' => sub {
	my ($c, $id) = begun($t, 'ida', 'script:calm');
	my $since = time;
	my $r = turn($other, 'ida', $id, 1, 0);
	is "$r->{status} $r->{json}{status}", '200 running', 'no wait: as it is';
	$r = turn($other, 'ida', $id, 1);
	is $r->{json}{status}, 'running', 'the same without ?wait';
	cmp_ok time - $since, '<', 2.5, '... at once';
	$since = time;
	is turn($other, 'ida', $id, 1, 1)->{json}{status}, 'running', 'a second';
	my $took = time - $since;
	ok $took >= 0.9 && $took < 2.4, '... is a second' or diag $took;
	my @wait = map { $_->begin('GET', "/api/conversations/$id/turns/1?wait=30", undef, user => 'ida') } $t, $other;
	$c->response;
	$since = time;
	for (@wait) {
		my $r = $_->response;
		is "$r->{json}{status} $r->{json}{response}", 'success At last.', 'the end, on whichever worker';
		body_ok($r->{json}, '... the whole body');
	}
	cmp_ok time - $since, '<', 5, '... as soon as it is there';
	$since = time;
	turn($t, 'ida', $id, 1, 30);
	cmp_ok time - $since, '<', 5, 'what has ended is not waited for';
	error_is(turn($t, 'ida', $id, 1, $_), 422, 'validation_error', "?wait=$_", field => 'wait') for qw(x -1 1e3);
	$r = turn($other, 'ida', $id, 9, 5);
	error_is($r, 404, 'turn_not_found', 'no such turn');
};

subtest 'what cannot be followed' => sub {
	my $id = $t->chat('jon', 'Hello')->{json}{conversation_id};
	my $nobody = '00000000-0000-4000-8000-000000000000';
	my @r = (follow($t, 'mallory', $id, 1)->response, follow($t, 'jon', $nobody, 1)->response);
	error_is($_, 404, $r[0]{json}{error_code}, 'not there') for @r;
	delete @{$_->{json}}{qw(request_id conversation_id turn)} for @r;
	is_deeply $r[0]{json}, $r[1]{json}, 'unknown and foreign look the same';
	is follow($t, 'jon', $id, $_)->head->{status}, 404, "turn $_" for 2, 0, 'x';
	error_is($t->get("/api/conversations/$id/turns/1/events", token => undef), 401, 'missing_token', 'no token');
	my $r = $t->post("/api/conversations/$id/turns/1/events", {}, user => 'jon');
	error_is($r, 405, 'method_not_allowed', 'POST');
	is $r->{headers}{allow}, 'GET, HEAD', '... Allow';
	my $since = time;
	my $head = $t->begin('HEAD', "/api/conversations/$id/turns/1/events", undef, user => 'jon');
	is $head->head->{status}, 200, 'HEAD';
	like $head->head->{headers}{'content-type'}, qr{^text/event-stream}, '... is like GET';
	is $head->slurp, '', '... without a body';
	my ($c, $live) = begun($t, 'jon', 'script:endless');
	$head = $t->begin('HEAD', "/api/conversations/$live/turns/1/events", undef, user => 'jon');
	is $head->head->{status} . $head->slurp, '200', 'HEAD of a turn that runs';
	cmp_ok time - $since, '<', 10, '... does not wait for it';
	is $t->delete("/api/conversations/$live", user => 'jon')->{status}, 204, 'a conversation is deleted';
	$c->response;
};

is $pg->one(q{SELECT count(*) FROM parley.turns WHERE state IN ('running', 'queued')}), 0, 'nothing is left over';
is $_->pool->sickness, '', 'the workers are well' for $t, $other;
done_testing;
