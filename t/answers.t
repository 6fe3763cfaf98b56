# Whatever a model answers: the turn ends as it should, what is stored can be read, the next turn works.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;

use Parley::Contract;
use Parley::Test;

my $JSON = JSON::XS->new->ascii->allow_nonref;
my $stop = "data {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\ndone\n";

# A text or a call as the model writes it: JSON strings, so that any escape can be in them.
sub text { join('', map { "data {\"choices\":[{\"index\":0,\"delta\":{\"content\":$_}}]}\n" } @_) . $stop }

sub call {
	my ($arguments, $name) = @_;
	my $call = sprintf '{"index":0,"id":"call_x","type":"function","function":{"name":%s,"arguments":%s}}',
	    $name // '"add_task"', $JSON->encode($arguments);
	return "data {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[$call]},\"finish_reason\":\"tool_calls\"}]}\n" .
	    "done\n---\n" . text_reply('After that.');
}

# name => [script, the answer]
my %texts = (
	'a NUL' => [text('"a\u0000b"'), 'ab'], 'a lone surrogate' => [text('"a\ud800b"'), "a\x{fffd}b"],
	'a pair in two pieces' => [text('"\ud83d"', '"\ude00"'), "\x{1f600}"],
	'bytes that are no UTF-8' => [text("\"a\xff\xfeb\""), "a\x{fffd}\x{fffd}b"],
	'control characters' => [text('"\u0001\u001f\u007f\u2028"'), "\x01\x1f\x7f\x{2028}"],
	'a call with no name' => [call('{}', '""'), undef],
);
# name => [script, the error or undef]
my $no_object = 'The arguments were not a valid JSON object. Nothing was done.';
my $no_tool = 'There is no tool of this name.';
my %calls = (
	'a NUL in a value' => [call('{"title":"a\u0000b"}'), $no_object],
	'a NUL in a key' => [call('{"ti\u0000tle":"b"}'), $no_object],
	'a lone surrogate in a value' => [call('{"title":"a\ud800b"}'), $no_object],
	'a key twice' => [call('{"title":"a","title":"b"}'), $no_object],
	'5,000 levels' => [call('{"title":' . '[' x 5000 . ']' x 5000 . '}'), $no_object],
	'a list' => [call('["title"]'), $no_object], 'a string' => [call('"title"'), $no_object],
	'two objects' => [call('{"title":"x"}{"title":"y"}'), $no_object],
	'1e99999' => [call('{"task_id":1e99999}', '"complete_task"'), $no_object],
	'500 digits' => [call('{"task_id":' . '9' x 500 . '}', '"complete_task"'), $no_object],
	'1.5' => [call('{"task_id":1.5}', '"complete_task"'), 'task_id must be a whole number.'],
	'past bigint' => [call('{"task_id":99999999999999999999}', '"complete_task"'), undef],
	'300 kB' => [call('{"title":"' . 'x' x 300_000 . '"}'), 'Title must be 255 characters or less.'],
	'a function that is no tool' => [call('{}', '"pg_sleep"'), $no_tool],
	'a function of Parley' => [call('{}', '"turn_end"'), $no_tool],
	'SQL in a name' => [call('{}', q{"add_task'); DROP TABLE parley.turns; --"}), $no_tool],
	'a qualified name' => [call('{"title":"x"}', '"tools.add_task"'), $no_tool],
	'a NUL in a name' => [call('{}', '"add\u0000_task"'), undef],
	'a name of 20 kB' => [call('{}', '"' . 'n' x 20_000 . '"'), $no_tool],
	'another user' => [call('{"title":"x","user_id":"bob"}'), 'access denied'],
	'another user, odd' => [call('{"title":"x","user_id":["alice"]}'), 'access denied'],
);

my (%script, %name);
for my $set (\%texts, \%calls) {
	for my $what (sort keys %$set) {
		$name{$what} = 's' . keys %name;
		$script{$name{$what}} = $set->{$what}[0];
	}
}
my $t = Parley::Test->new(model => Parley::Model->new(scripts => \%script), workers => 1);
my ($pid) = $t->pids;

# The turn's body, after all that must hold of any turn.
sub turn {
	my ($what) = @_;
	my $r = $t->chat('alice', "script:$name{$what}");

	is $r->{status}, 200, 'it is answered' or diag substr $r->{body}, 0, 500;
	my $b = $r->{json} or return {};
	body_ok($b, 'the turn');
	my $page = $t->get("/api/conversations/$b->{conversation_id}")->{json};
	is_deeply $page->{messages}, $b->{messages}, 'it is read as it was given out';
	is_deeply $t->get("/api/conversations/$b->{conversation_id}/turns/1")->{json}{messages}, $b->{messages}, '... by its number, too';
	is $t->chat('alice', 'Hello', conversation_id => $b->{conversation_id})->{status}, 200, 'and the next turn works';
	return $b;
}

for my $what (sort keys %texts) {
	subtest $what => sub {
		my $b = turn($what);
		is $b->{response}, $texts{$what}[1], 'the answer' if defined $texts{$what}[1];
	};
}
for my $what (sort keys %calls) {
	subtest "a call with $what" => sub {
		my $b = turn($what);
		my ($call, @more) = @{$b->{tool_calls}};
		is @more, 0, 'one call';
		ok $call->{is_error}, '... is refused';
		is $call->{result}{error}, $calls{$what}[1], '... with the reason' if defined $calls{$what}[1];
		is $b->{response}, 'After that.', '... and the turn goes on';
	};
}

is $t->pg->one('SELECT count(*) FROM tasks.tasks'), 0, 'nothing was done by any of them';
is $t->pg->one(q{SELECT count(*) FROM parley.conversations WHERE user_id <> 'alice'}), 0, 'to nobody';
is_deeply [$t->pids], [$pid], 'the worker lives';
is $t->pool->sickness, '', '... and is well';
done_testing;
