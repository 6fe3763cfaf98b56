# api.unknown_conversation: reject (the default) and create.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;

use Parley::Contract;
use Parley::Test;

my $UNKNOWN = '11111111-2222-4333-8444-555555555555';
my $reject = Parley::Test->new;
my %same = (pg => $reject->pg, model => $reject->model);
my %on = (
	'reject by default' => $reject,
	'reject' => Parley::Test->new(%same, conf => { 'api.unknown_conversation' => 'reject' }),
	'create' => Parley::Test->new(%same, conf => { 'api.unknown_conversation' => 'create' }),
);
my $alices = $reject->chat('alice', 'hello')->{json}{conversation_id};

for my $name ('reject by default', 'reject') {
	my $t = $on{$name};
	subtest $name => sub {
		error_is($t->chat('bob', 'hello', conversation_id => $UNKNOWN), 404, 'conversation_not_found', 'an unknown id');
		error_is($t->chat('bob', 'hello', conversation_id => $alices), 404, 'conversation_not_found', "another user's id");
		error_is($t->chat('bob', 'hello', conversation_id => 'conv_123'), 422, 'validation_error', 'no UUID',
		    field => 'conversation_id');
		error_is($t->chat('bob', 'hello', conversation_id => 42), 422, 'validation_error', 'a number', field => 'conversation_id');
		is $t->pg->one("SELECT count(*) FROM parley.conversations WHERE user_id = 'bob'"), 0, 'nothing was made';
	};
}

subtest 'create' => sub {
	my $t = $on{create};
	for my $id ($UNKNOWN, $alices, 'conv_123', '', 42, -1.5, JSON::XS::true, [], {}) {
		my $name = ref $id ? ref $id : $id;
		my $r = $t->chat('carol', "hello $name", conversation_id => $id);
		is $r->{status}, 200, "'$name' begins a conversation" or diag $r->{body};
		is $r->{json}{turn}, 1, '... at its first turn';
		isnt $r->{json}{conversation_id}, $id, '... with an id of our own';
		is $t->chat('carol', 'again', conversation_id => $r->{json}{conversation_id})->{json}{turn}, 2, '... which can be used';
	}
	my @events = $t->stream('carol', 'hello', conversation_id => $UNKNOWN);
	is $events[0]{event}, 'turn', 'as a stream';
	isnt $events[0]{data}{conversation_id}, $UNKNOWN, '... with an id of our own';
	is $t->pg->one('SELECT count(*) FROM parley.turns WHERE user_id = ?', 'alice'), 1, "alice's conversation has not moved";
	error_is($t->get("/api/conversations/$UNKNOWN", user => 'carol'), 404, 'conversation_not_found', 'in a path it stays unknown');
	error_is($t->get('/api/conversations/conv_123', user => 'carol'), 404, 'conversation_not_found', '... and so does what is no UUID');
	error_is($t->chat('carol', '', conversation_id => $UNKNOWN), 422, 'validation_error', 'other fields are as strict as ever',
	    field => 'message');
};

done_testing;
