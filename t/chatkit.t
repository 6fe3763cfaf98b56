# POST /api/chatkit: each operation, the order of its streams, what is refused, and that it is the same as /api/chat.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::ChatKit;
use Parley::Contract;
use Parley::Process;
use Parley::Test;
use Parley::Turns;

binmode Test::More->builder->$_, ':utf8' for qw(output failure_output todo_output);

my $slow = text_reply('One, ', map { (150, "and $_ ") } 1 .. 60);
my $model = Parley::Model->new(scripts => {
	pieces => text_reply("  \n", 'Grüße, ', 50, '😀', "\nline two\r\n", ' end'),
	tools => join("---\n", call_reply(add_task => { title => 'One' }, list_tasks => {}),
	    call_reply(nothing_like_it => {}), text_reply('All ', 'done.')),
	talks => join("---\n", text_reply('Let me see. ') =~ s/data [^\n]*finish_reason.*//sr .
	    call_reply(add_task => { title => 'Two' }), text_reply('Done.')),
	torn => text_reply('Half ', 'an answer') =~ s/data [^\n]*finish_reason.*/reset\n/sr,
	broken => "status 400\nheader Content-Type: application/json\nraw {\"error\":{\"message\":\"no\"}}\n",
	(map { ("slow$_" => $slow) } 1 .. 9),
	silent => text_reply(700, 'At last.'),
	(map { ("delete$_" => join("---\n", call_reply(delete_task => { task_id => 1 }), text_reply('So ', 'be it.'))) } 1 .. 9),
	several => join("---\n", text_reply('I shall. ') =~ s/data [^\n]*finish_reason.*//sr .
	    call_reply(delete_task => { task_id => 1 },
	    list_tasks => {}, delete_task => { task_id => 2 }), call_reply(list_tasks => {}), text_reply('Gone.')),
	hang => "hang\n",
});
my $t = Parley::Test->new(model => $model, conf => { 'model.retries' => 0, 'client.keepalive' => '200 ms' });
my $pg = $t->pg;
my $k = Parley::ChatKit->new($t, 'alice');
my $nobody = '00000000-0000-4000-8000-000000000000';

sub count { return $pg->one('SELECT count(*) FROM parley.messages WHERE user_id = ?', $_[0]) }

my $thread;		# alice's first, with the turns pieces, tools and talks
subtest 'threads.create, plain reply' => sub {
	my @e = $k->say('script:pieces');
	is kinds(@e), 'created item.done stream_options item.added added text_delta done item.done', 'the order of the protocol';
	thread_ok $e[0]{thread}, 'thread.created';
	is_deeply $e[0]{thread}{items}, { data => [], has_more => JSON::XS::false }, '... without items';
	is $e[0]{thread}{title}, 'script:pieces', '... with its title';
	$thread = $e[0]{thread}{id};
	item_ok $e[1]{item}, $thread, 'the message';
	is_deeply $e[2]{stream_options}, { allow_cancel => JSON::XS::true }, 'Stop is offered';
	is_deeply $e[3]{item}{content}, [], 'the answer begins with nothing';
	is_deeply $e[4]{update}{content}, { type => 'output_text', text => '', annotations => [] }, '... and an empty part';
	is $e[-1]{item}{id}, $e[3]{item}{id}, 'one id from the beginning to the end';
	item_ok $e[-1]{item}, $thread, 'the answer';
	is_deeply shown(@e), $k->items($thread), 'screen and rows agree';

	my $c = $t->get("/api/conversations/$thread")->{json};
	is_deeply [map { $_->{id} } @{$c->{messages}}], [map { $_->{id} } @{$k->items($thread)}], 'items are messages';
	is $c->{messages}[1]{content}, $e[-1]{item}{content}[0]{text}, '... of the same text';
};

subtest 'threads.add_user_message, with tools' => sub {
	my @e = $k->say('script:tools', $thread);
	is kinds(@e), 'item.done stream_options item.added added updated updated added updated item.done ' .
	    'item.added added text_delta done item.done', 'one workflow over both steps';
	my ($added) = grep { $_->{type} eq 'thread.item.added' } @e;
	is $added->{item}{workflow}{tasks}[0]{status_indicator}, 'loading', 'it begins with a task that runs';
	is scalar @{$added->{item}{workflow}{tasks}}, 1, '... one';
	my ($flow) = grep { ($_->{item}{type} // '') eq 'workflow' && $_->{type} eq 'thread.item.done' } @e;
	item_ok $flow->{item}, $thread, 'the workflow';
	is_deeply [map { $_->{status_indicator} } @{$flow->{item}{workflow}{tasks}}], [qw(complete complete none)], 'how they ended';
	is_deeply [map { $_->{title} } @{$flow->{item}{workflow}{tasks}}],
	    ['Add task', 'List tasks', 'Nothing like it failed'], 'titles';
	ok exists $flow->{item}{workflow}{summary}{duration}, 'a summary at the end';
	is_deeply shown(@e), [@{$k->items($thread)}[2 .. 4]], 'screen and rows agree: each task once';

	@e = $k->say('script:talks', $thread);
	is kinds(@e), 'item.done stream_options item.added added text_delta done item.done ' .
	    'item.added updated item.done item.added added text_delta done item.done', 'text, tools, text';
	is_deeply shown(@e), [@{$k->items($thread)}[5 .. 8]], 'screen and rows agree';
	my %id = map { $_->{id} => 1 } @{$k->items($thread)};
	is scalar keys %id, 9, 'all ids are different';
};

subtest 'threads.get_by_id, items.list' => sub {
	my $r = $k->ask('threads.get_by_id', { thread_id => uc $thread });
	is $r->{status}, 200, 'it is there';
	thread_ok $r->{json}, 'the thread';
	my $all = $k->items($thread);
	is_deeply $r->{json}{items}, { data => $all, has_more => JSON::XS::false }, 'with its items, oldest first';
	item_ok $_, $thread, $_->{id} for @$all;

	for my $order (qw(asc desc)) {
		my ($after, @got);
		for (1 .. 20) {
			my $p = $k->ask('items.list', { thread_id => $thread, limit => 2, order => $order, after => $after })->{json};
			push @got, @{$p->{data}};
			is exists $p->{after}, !!$p->{has_more}, 'after only where there is more';
			last unless $p->{has_more};
			is $p->{after}, $p->{data}[-1]{id}, 'after is the last one';
			$after = $p->{after};
		}
		is_deeply \@got, $order eq 'asc' ? $all : [reverse @$all], "page by page, $order: none twice, none missed";
	}
	is_deeply $k->ask('items.list', { thread_id => $thread, limit => undef, order => undef, after => undef })->{json}{data},
	    [reverse @$all], 'newest first by default';
	is_deeply $k->ask('items.list', { thread_id => $thread, limit => 0 })->{json}{data}, [reverse @$all], 'limit 0 is the default';
	is $k->ask('items.list', { thread_id => $thread, limit => 1e9 })->{status}, 200, 'a page is a page';
	is $k->ask('items.list', { thread_id => $thread, limit => -1 })->{status}, 400, 'limit -1';
	is $k->ask('items.list', { thread_id => $thread, order => 'up' })->{status}, 400, 'order up';
	is $k->ask('items.list', { thread_id => $thread, after => $_ })->{status}, 404, "after $_" for $nobody, 'x', "wf_$nobody";
};

subtest 'a long thread' => sub {
	my $id = $t->chat('lena', 'Hello')->{json}{conversation_id};
	$t->chat('lena', "Hello $_", conversation_id => $id) for 2 .. 13;
	my $l = Parley::ChatKit->new($t, 'lena');
	my $items = $l->ask('threads.get_by_id', { thread_id => $id })->{json}{items};
	is scalar @{$items->{data}}, 20, 'twenty items';
	ok $items->{has_more}, '... and more';
	is $items->{after}, $items->{data}[-1]{id}, '... after the last one';
	my $rest = $l->ask('items.list', { thread_id => $id, order => 'asc', after => $items->{after} })->{json};
	is scalar @{$rest->{data}}, 6, 'the rest';
	is $rest->{data}[4]{content}[0]{text}, 'Hello 13', '... to the end';
};

subtest 'threads.list, update, delete' => sub {
	my $m = Parley::ChatKit->new($t, 'mia');
	is_deeply $m->ask('threads.list', {})->{json}, { data => [], has_more => JSON::XS::false }, 'nothing yet';
	my @id = map { $t->chat('mia', "Number $_")->{json}{conversation_id} } 1 .. 5;
	# Begun in one moment.
	$pg->do(q{UPDATE parley.conversations SET created_at = '2026-01-01' WHERE user_id = 'mia' AND title <> 'Number 5'});
	$t->chat('mia', 'Activity changes nothing', conversation_id => $id[1]);
	for my $order (qw(asc desc)) {
		my ($after, @got);
		for (1 .. 10) {
			my $p = $m->ask('threads.list', { limit => 2, order => $order, defined $after ? (after => $after) : () })->{json};
			thread_ok $_, $_->{title} for @{$p->{data}};
			push @got, map { $_->{id} } @{$p->{data}};
			$after = $p->{after} // last;
		}
		is_deeply [sort @got], [sort @id], "$order: each once";
		is $got[$order eq 'asc' ? -1 : 0], $id[4], '... by when they were begun';
	}
	my $r = $m->ask('threads.update', { thread_id => $id[0], title => ' A new name ' });
	is $r->{json}{title}, 'A new name', 'renamed';
	thread_ok $r->{json}, 'the thread';
	is $m->ask('threads.update', { thread_id => $id[0], title => $_ })->{status}, 400, 'no title' for ' ', undef, 'x' x 201, 7;
	is_deeply $m->ask('threads.delete', { thread_id => $id[0] })->{json}, {}, 'deleted';
	is $m->ask('threads.get_by_id', { thread_id => $id[0] })->{status}, 404, '... and gone';
	is $m->ask('threads.list', { after => $id[0] })->{status}, 404, '... no place to go on from';
	is $t->get("/api/conversations/$id[0]", user => 'mia')->{status}, 404, '... here as well';
};

subtest 'items.feedback' => sub {
	my @id = map { $_->{id} } @{$k->items($thread)};
	my $give = sub { $k->ask('items.feedback', { thread_id => $thread, item_ids => $_[0], kind => $_[1] // 'positive' }) };
	my $r = $give->([@id[1, 3]]);
	is_deeply [$r->{status}, $r->{json}], [200, {}], 'taken';
	is $give->([$id[1], $id[1]], 'negative')->{status}, 200, 'thought better of';
	is_deeply $pg->rows('SELECT user_id, item, kind FROM parley.feedback ORDER BY kind'),
	    [{ user_id => 'alice', item => $id[1], kind => 'negative' }, { user_id => 'alice', item => $id[3], kind => 'positive' }],
	    'stored, the last word once';
	is $give->([$id[1], $nobody])->{status}, 404, 'no such item';
	is $give->(['x'])->{status}, 404, 'no id';
	is $give->($_)->{status}, 400, 'no list' for [], 'x', [7], [($id[1]) x 101];
	is $give->([$id[1]], 'fine')->{status}, 400, 'no such kind';
	is $pg->one('SELECT count(*) FROM parley.feedback'), 2, 'nothing more was stored';

	my $own = $t->chat('nora', 'Hello')->{json};
	my $n = Parley::ChatKit->new($t, 'nora');
	my %p = (thread_id => $own->{conversation_id}, item_ids => [$own->{messages}[1]{id}], kind => 'positive');
	is $n->ask('items.feedback', \%p)->{status}, 200, 'given';
	is $n->ask('threads.delete', { thread_id => $own->{conversation_id} })->{status}, 200, 'and deleted';
	is $pg->one(q{SELECT count(*) FROM parley.feedback WHERE user_id = 'nora'}), 0, 'feedback goes with its thread';
};

subtest 'threads.retry_after_item' => sub {
	my $r = Parley::ChatKit->new($t, 'rita');
	my @e = $r->say('Hello 1');
	my $id = $e[0]{thread}{id};
	$r->say("Hello $_", $id) for 2 .. 4;
	my $before = $r->items($id);
	my $turns = $t->get("/api/conversations/$id", user => 'rita')->{json}{conversation}{turns};
	$model->clear;
	@e = $r->stream('threads.retry_after_item', { thread_id => $id, item_id => $before->[2]{id} });
	like kinds(@e), qr/^stream_options item.added added text_delta done item.done$/, 'the stream begins with its options';
	is_deeply $r->items($id), [@$before[0 .. 2], @{shown(@e)}], 'what came later is gone, the answer is new';
	isnt $e[-1]{item}{id}, $before->[3]{id}, '... with an id of its own';
	unlike(JSON::XS->new->encode([$model->requests]), qr/Hello [34]/, 'the model was not told of it');

	my $c = $t->get("/api/conversations/$id", user => 'rita')->{json};
	is_deeply [map { [$_->{turn}, $_->{run}] } @{$c->{messages}}], [[1, 1], [1, 1], [2, 2], [2, 2]], '/api/conversations agrees';
	is scalar @{$t->get("/api/conversations/$id?runs=all", user => 'rita')->{json}{messages}}, 10, '?runs=all has it all';
	@e = $r->say('Hello 5', $id);
	is scalar @{$r->items($id)}, 6, 'it goes on from there';
	my $last = ($model->requests)[-1];
	my @said = map { $_->{content} } grep { $_->{role} eq 'user' } @{($last->{json} // $last->{body})->{messages}};
	is_deeply \@said, ['Hello 1', 'Hello 2', 'Hello 5'], 'the history of the next turn';
	is $t->get("/api/conversations/$id", user => 'rita')->{json}{messages}[-1]{turn}, 5, 'numbers are not given out again';
	is retry($t, 'rita', $id, 2)->{status}, 409, 'the last turn is another now';
	is retry($t, 'rita', $id, 5)->{status}, 200, '... and can be retried in the other protocol';
	is retry($t, 'rita', $id, 4)->{status}, 409, '... one that was superseded cannot';

	my $try = sub { $r->ask('threads.retry_after_item', { thread_id => $id, item_id => $_[0] }) };
	is $try->($r->items($id)->[1]{id})->{status}, 400, 'an answer';
	is $try->($before->[4]{id})->{status}, 404, 'a message that is gone';
	is $try->($_)->{status}, 404, "item $_" for $nobody, 'x';
	is $r->ask('threads.retry_after_item', { thread_id => $nobody, item_id => 'x' })->{status}, 404, 'no thread';

	my ($c2) = begun($t, 'rita', 'script:slow1', conversation_id => $id);
	is $try->($before->[2]{id})->{status}, 409, 'not while a turn runs';
	cancel($t, 'rita', $id, 6);
	$c2->response;
};

subtest 'failures' => sub {
	my $f = Parley::ChatKit->new($t, 'finn');
	my @e = $f->say('script:torn');
	is kinds(@e), 'created item.done stream_options item.added added text_delta done item.done error',
	    'in the middle: the text is kept';
	my $id = $e[0]{thread}{id};
	is_deeply [@{$e[-1]}{qw(code allow_retry)}], ['custom', JSON::XS::true], 'it can be tried again';
	like $e[-1]{message}, qr/^The language model .*[.]$/, '... says a sentence';
	is_deeply shown(@e), $f->items($id), 'screen and rows agree';
	@e = $f->say('script:broken', $id);
	is kinds(@e), 'item.done stream_options error', 'before anything was said';
	is scalar @{$f->items($id)}, 3, 'the message is kept';
	# And the button that the client shows then.
	$model->script(broken => text_reply('Now it works.'));
	@e = $f->stream('threads.retry_after_item', { thread_id => $id, item_id => $e[0]{item}{id} });
	is $e[-1]{item}{content}[0]{text}, 'Now it works.', 'retry';
};

subtest 'quiet, and behind another' => sub {
	my $q = Parley::ChatKit->new($t, 'quinn');
	my $c = $q->begin('threads.create', { input => input('script:silent') });
	my $r = $c->response;
	like $r->{body}, qr/\n\n: still here\n(?:: still here\n)*data: /, 'a comment has no blank line behind it';
	my ($id) = $r->{body} =~ /"thread_id":"([^"]+)"/;
	my ($live) = begun($t, 'quinn', 'script:slow2', conversation_id => $id);
	$c = $q->begin('threads.add_user_message', { thread_id => $id, input => input('Hello') });
	is kinds(map { $c->event->{data} } 1 .. 3), 'item.done stream_options progress_update', 'told that it waits';
	cancel($t, 'quinn', $id, 2);
	my @e = map { $_->{data} } events($c);
	is kinds(@e), 'item.added added text_delta done item.done', 'and then answered';
	is_deeply shown(@e), [$q->items($id)->[-1]], 'screen and rows agree';
	$live->response;
};

# A user with two tasks who is asked about deleting; the thread, the structured_input, and all items so far.
sub asked {
	my ($user, $script) = @_;
	my $a = Parley::ChatKit->new($t, $user);
	$t->chat($user, "add task: T$_") for 1 .. 2;
	my @e = $a->say("script:$script");
	my $id = $e[0]{thread}{id};
	my ($ask) = grep { $_->{type} eq 'structured_input' } @{$a->items($id)};
	is_deeply shown(@e), $a->items($id), 'screen and rows agree';
	return ($a, $id, $ask, @e);
}

sub answer {
	my ($a, $id, $ask, @values) = @_;
	my %answers = map { $_->{id} => { values => [shift(@values) // ()], skipped => JSON::XS::false } } @{$ask->{inputs}};
	return $a->stream('threads.add_structured_input', { thread_id => $id, item_id => $ask->{id},
	    input => { status => 'answered', answers => { %answers, unknown => { values => ['x'] } } } });
}

sub tasks { return $pg->one('SELECT count(*) FROM tasks.tasks WHERE user_id = ?', $_[0]) }

subtest 'approvals: threads.add_structured_input' => sub {
	my ($a, $id, $ask, @e) = asked('ava', 'delete1');
	is kinds(@e), 'created item.done stream_options item.done', 'the turn ends with the question';
	item_ok $ask, $id, 'the question';
	is $ask->{status}, 'pending', '... waits';
	is_deeply [map { [$_->{type}, map { $_->{value} } @{$_->{options}}] } @{$ask->{inputs}}],
	    [['multiple_choice', 'Approve', 'Deny']], '... for one of two';
	like $ask->{inputs}[0]{question}, qr/\w/, '... and says what for';
	my $wrong = sub {
		$a->ask('threads.add_structured_input', { thread_id => $id, item_id => $ask->{id}, input => $_[0] })->{status};
	};
	is $wrong->($_), 400, 'no answer' for undef, {}, { status => 'done' }, { status => 'answered', answers => [] },
	    { status => 'answered', answers => { $ask->{inputs}[0]{id} => 7 } },
	    { status => 'answered', answers => { $ask->{inputs}[0]{id} => { values => ['Perhaps'] } } };
	is tasks('ava'), 2, 'nothing was done yet';
	@e = answer($a, $id, $ask, 'Approve');
	is kinds(@e), 'stream_options item.replaced item.added updated item.done item.added added text_delta done item.done',
	    'the answered item, and then the reply';
	is_deeply [map { $_->{answer} } @{$e[1]{item}{inputs}}],
	    [{ values => ['Approve'], skipped => JSON::XS::false }], 'with its answer';
	is $e[1]{item}{status}, 'answered', '... answered';
	is_deeply shown(@e), [@{$a->items($id)}[1 .. 3]], 'screen and rows agree';
	is tasks('ava'), 1, 'it was done once';
	is $a->ask('threads.add_structured_input', { thread_id => $id, item_id => $ask->{id},
	    input => { status => 'skipped', answers => {} } })->{status}, 409, 'answered is answered';

	my %p = (item_id => $ask->{id}, input => { status => 'skipped' });
	error_is(Parley::ChatKit->new($t, 'mallory')->ask('threads.add_structured_input', { %p, thread_id => $id }), 404,
	    'conversation_not_found', 'somebody else');
	is $a->ask('threads.add_structured_input', { %p, thread_id => $id, item_id => $a->items($id)->[0]{id} })->{status},
	    400, 'no question';
	is $a->ask('threads.add_structured_input', { %p, thread_id => $id, item_id => "ask_$nobody" })->{status},
	    404, 'no such question';

	for my $case (['bea', 2, ['Deny'], 'answered'], ['cleo', 3, [], 'answered']) {
		my ($user, $n, $values, $status) = @$case;
		($a, $id, $ask) = asked($user, "delete$n");
		@e = answer($a, $id, $ask, @$values);
		is $e[1]{item}{status}, $status, 'no';
		is_deeply shown(@e), [@{$a->items($id)}[1 .. 3]], 'screen and rows agree';
		is $a->items($id)->[2]{workflow}{tasks}[0]{title}, 'Delete task not done', 'it was not done';
		is tasks($user), 2, '... indeed';
	}
	($a, $id, $ask) = asked('dee', 'delete4');
	@e = $a->stream('threads.add_structured_input', { thread_id => $id, item_id => $ask->{id}, input => { status => 'skipped' } });
	is tasks('dee'), 2, 'skipped is no yes';
	my %id = map { $_->{id} => 1 } @{$a->items($id)};
	is scalar keys %id, 4, 'all ids are different';

	($a, $id, $ask, @e) = asked('eve', 'several');
	is kinds(@e), 'created item.done stream_options item.added added text_delta done item.done ' .
	    'item.added updated item.done item.done', 'text, what needs no yes, and two questions';
	@e = answer($a, $id, $ask, 'Approve', 'Deny');
	is kinds(@e), 'stream_options item.replaced item.added added updated added updated item.done ' .
	    'item.added added text_delta done item.done', 'and what became of them';
	is_deeply shown(@e), [@{$a->items($id)}[3 .. 5]], 'screen and rows agree';
	is tasks('eve'), 1, 'one was done';
	my ($after, @got);
	do {
		my $p = $a->ask('items.list', { thread_id => $id, limit => 1, order => 'asc', after => $after })->{json};
		push @got, @{$p->{data}};
		$after = $p->{after};
	} while defined $after;
	is_deeply \@got, $a->items($id), 'one by one';

	# A word, in either protocol; and the other way round.
	($a, $id, $ask) = asked('fay', 'delete5');
	@e = $a->say('yes', $id);
	is kinds(@e), 'item.done stream_options item.replaced item.added updated item.done item.added added text_delta done ' .
	    'item.done', 'yes';
	is tasks('fay'), 1, 'done';
	is_deeply [sort map { $_->{id} } @{shown(@e)}], [sort map { $_->{id} } @{$a->items($id)}[1 .. 4]], 'screen and rows agree';
	($a, $id, $ask) = asked('gia', 'delete6');
	$t->chat('gia', undef, conversation_id => $id, approvals => { $ask->{inputs}[0]{id} => JSON::XS::true });
	is $a->items($id)->[1]{status}, 'answered', 'answered in the other protocol';

	# Asked anew, an open question is closed.
	($a, $id, $ask) = asked('hal', 'delete7');
	$model->script(delete7 => text_reply('Another way.'));
	@e = $a->stream('threads.retry_after_item', { thread_id => $id, item_id => $a->items($id)->[0]{id} });
	is_deeply [map { $_->{type} } @{$a->items($id)}], [qw(user_message assistant_message)], 'retry of a turn that waits';
	is tasks('hal'), 2, '... does not do it';
};

subtest 'what is refused' => sub {
	my $before = count('alice');
	my $n = $pg->one('SELECT count(*) FROM parley.turns');
	my %bad = (
		'no type' => [undef, {}], 'type 7' => [7, {}], 'unknown type' => ['threads.stop', {}],
		'no params' => ['threads.list', undef], 'params []' => ['threads.list', []],
		(map { ($_ => [$_, { thread_id => $thread }]) } qw(threads.add_client_tool_output threads.custom_action
		    threads.sync_custom_action attachments.create attachments.delete input.transcribe)),
		'no input' => ['threads.create', {}],
		'no content' => ['threads.create', { input => {} }],
		'empty' => ['threads.create', { input => input(" \n") }],
		'nothing but a quotation' => ['threads.create', { input => input('', quoted_text => 'x') }],
		'too long' => ['threads.create', { input => input('ä' x 2001) }],
		'unknown part' => ['threads.create', { input => { content => [{ type => 'image', text => 'x' }] } }],
		'part without text' => ['threads.create', { input => { content => [{ type => 'input_text' }] } }],
		'no part' => ['threads.create', { input => { content => ['x', undef, 1] } }],
		'attachments' => ['threads.create', { input => input('x', attachments => ['a']) }],
		'a model' => ['threads.create', { input => input('x', inference_options => { model => 'gpt-9' }) }],
		'no thread_id' => ['threads.add_user_message', { input => input('x') }],
	);
	for my $name (sort keys %bad) {
		my $r = $k->ask(@{$bad{$name}});
		error_is($r, 400, 'bad_request', $name);
	}
	error_is($t->post('/api/chatkit', '{"type":', user => 'alice'), 400, 'invalid_json', 'half of it');
	error_is($t->post('/api/chatkit', "{\"type\":\"\xff\"}", user => 'alice'), 400, 'invalid_json', 'no UTF-8');
	error_is($t->post('/api/chatkit', { type => 'threads.list', params => { x => 'x' x 70000 } }),
	    413, 'body_too_large', 'too large');
	error_is($t->post('/api/chatkit', '{}', headers => { 'Content-Type' => 'text/plain' }),
	    415, 'unsupported_media_type', 'no JSON');
	error_is($t->post('/api/chatkit', { type => 'threads.list', params => {} }, token => undef), 401, 'missing_token', 'no token');
	error_is($t->get('/api/chatkit'), 405, 'method_not_allowed', 'GET');
	is $t->get('/api/chatkit')->{headers}{allow}, 'POST', '... Allow';

	# Somebody else's, and what is nobody's, look the same.
	my $m = Parley::ChatKit->new($t, 'mallory');
	my $item = $k->items($thread)->[0]{id};
	for my $op (['threads.get_by_id'], ['threads.update', title => 'Mine'], ['threads.delete'], ['items.list'],
	    ['items.feedback', item_ids => [$item], kind => 'positive'], ['threads.add_user_message', input => input('Hello')],
	    ['threads.retry_after_item', item_id => $item]) {
		my ($type, %p) = @$op;
		for my $id ($thread, $nobody, 'x') {
			error_is($m->ask($type, { %p, thread_id => $id }), 404, 'conversation_not_found', "$type of $id",
			    conversation_id => $id eq 'x' ? undef : $id);
		}
	}
	is count('alice'), $before, 'nothing was stored';
	is $pg->one('SELECT count(*) FROM parley.turns'), $n, '... and no turn was begun';
	is $pg->one(q{SELECT count(*) FROM parley.conversations WHERE user_id = 'mallory'}), 0, '... for nobody';
};

subtest 'what a message may be' => sub {
	my $w = Parley::ChatKit->new($t, 'walt');
	my @e = $w->stream('threads.create', { extra => 1, input => { extra => 1, quoted_text => "first\nsecond",
	    content => [{ type => 'input_text', text => 'Ask ' }, { type => 'input_tag', id => 'i', text => 'Ann', data => {} },
	    { type => 'input_text', text => " \x{202e}<script>\"\\ 😀" }], attachments => undef, inference_options => undef } });
	is $e[1]{item}{content}[0]{text}, "> first\n> second\n\nAsk \@Ann \x{202e}<script>\"\\ 😀",
	    'parts, tag and quotation, as they are';
	is_deeply shown(@e), $w->items($e[0]{thread}{id}), 'screen and rows agree';
	is $t->get('/api/conversations/' . $e[0]{thread}{id}, user => 'walt')->{json}{messages}[0]{content},
	    $e[1]{item}{content}[0]{text}, 'the other protocol has the same';
};

subtest 'begun in one, gone on with in the other' => sub {
	my $b = Parley::ChatKit->new($t, 'both');
	my $r = $t->chat('both', 'script:tools')->{json};
	my $id = $r->{conversation_id};
	is_deeply [map { $_->{type} } @{$b->items($id)}], [qw(user_message workflow assistant_message)], 'a turn with tools';
	is $b->items($id)->[1]{id}, 'wf_' . $r->{messages}[1]{id}, '... the workflow is named after its message';
	my @e = $b->say('Hello', $id);
	is $t->chat('both', 'Hello again', conversation_id => $id)->{json}{turn}, 3, 'turn by turn';
	is scalar @{$t->get("/api/conversations/$id", user => 'both')->{json}{messages}}, 8, 'all in one conversation';
};

subtest 'said twice' => sub {
	my $d = Parley::ChatKit->new($t, 'dora');
	my %key = (headers => { 'Idempotency-Key' => 'k1' });
	my @first = $d->say('script:pieces', undef, %key);
	my @again = $d->say('script:pieces', undef, %key);
	is_deeply shown(@again), shown(@first), 'with a key it is the same message and the same answer';
	is $again[0]{thread}{id}, $first[0]{thread}{id}, '... in the same thread';
	is count('dora'), 2, '... stored once';
	error_is($d->ask('threads.create', { input => input('Another') }, %key), 422, 'idempotency_mismatch', 'another with its key');
	$d->say('script:pieces');
	is count('dora'), 4, 'without a key it is another message';

	# A database that is away before anything is said: the client asks again, and nothing is there twice.
	my $down = Parley::Test->new(pg => $pg, model => $model, workers => 1, wait => 0,
	    conf => { 'database.url' => $pg->url('parley_worker', 'nowhere'), 'database.wait' => '300 ms' });
	my $r = Parley::Process::wait_for {
		my $r = eval { Parley::ChatKit->new($down, 'dora')->ask('threads.create', { input => input('Hello') }) };
		$r && $r->{json} ? $r : undef;
	} 10;
	is $r->{status}, 503, 'refused before the stream was opened';
	is count('dora'), 4, '... nothing is stored';
};

# What comes between the check and the rows is told inside the stream.
subtest 'no 5xx after the head' => sub {
	my $n = Parley::ChatKit->new($t, 'nils');
	$pg->do(q{ALTER TABLE parley.turns ADD CONSTRAINT no_nils CHECK (user_id <> 'nils')}, 'parley');
	my @e = $n->say('Hello');
	is kinds(@e), 'error', 'an event';
	is_deeply [@{$e[0]}{qw(code allow_retry)}], ['custom', JSON::XS::false], '... nothing is there that could be retried';
	$pg->do('ALTER TABLE parley.turns DROP CONSTRAINT no_nils', 'parley');
	is count('nils'), 0, '... nothing is stored';

	my $c = $n->begin('threads.create', { input => input('script:hang') });
	is $c->event->{data}{type}, 'thread.created', 'a turn that runs';
	$t->kill_worker($_) for $t->pids;
	my $r = eval { $c->response };
	is $c->head->{status}, 200, 'its worker dies: the stream ends, no status says try again';
	$t->ready;
};

sub ended {
	my ($user) = @_;
	return wait_for { $pg->rows(q{SELECT t.state, m.content, m.interrupted FROM parley.turns t
	    LEFT JOIN parley.messages m ON m.user_id = t.user_id AND m.turn = t.turn AND m.role = 'assistant'
	    WHERE t.user_id = ? AND t.state NOT IN ('running', 'queued')}, $user)->[0] } 5;
}

subtest 'a client that goes away' => sub {
	for my $case (['after some text', 'slow3', 6, qr/^One, /], ['before any', 'hang', 3, undef]) {
		my ($name, $script, $events, $text) = @$case;
		my $u = "gone-$script";
		my $c = Parley::ChatKit->new($t, $u)->begin('threads.create', { input => input("script:$script") });
		$c->event for 1 .. $events;
		$c->close;
		my $since = time;
		my $row = ended($u);
		cmp_ok time - $since, '<', 2, "$name: stopped within 2 s";
		is $row->{state}, 'cancelled', '... cancelled';
		defined $text ? like $row->{content}, $text, '... what was said is kept' : is $row->{content}, undef, '... nothing was said';
		my $id = $pg->one('SELECT conversation_id FROM parley.turns WHERE user_id = ?', $u);
		my $items = Parley::ChatKit->new($t, $u)->items($id);
		is scalar @$items, defined $text ? 2 : 1, '... as the items show';
		my @e = Parley::ChatKit->new($t, $u)->say('Hello', $id);
		is kinds(@e), 'item.done stream_options item.added added text_delta done item.done', '... and it goes on';
	}

	# One that waits behind another, on whichever worker.
	my $w = Parley::ChatKit->new($t, 'waits');
	my ($live, $id) = begun($t, 'waits', 'script:slow4');
	my $c = $w->begin('threads.add_user_message', { thread_id => $id, input => input('Hello') });
	$c->event for 1 .. 3;
	$c->close;
	wait_for { state_of($pg, $id, 2) eq 'cancelled' } 20;
	is state_of($pg, $id, 2), 'cancelled', 'a message that waits is taken back';
	is state_of($pg, $id, 1), 'running', '... the one before it goes on';
	cancel($t, 'waits', $id, 1);
	$live->response;

	# A client of /api/chat that goes away stops nothing: t/stream.t.
	my $keep = Parley::Test->new(pg => $pg, model => $model, workers => 1, conf => { 'chatkit.cancel_on_disconnect' => 'no' });
	$model->script(slow5 => text_reply('One, ', 300, 'two, ', 1200, 'three.'));
	$c = Parley::ChatKit->new($keep, 'stays')->begin('threads.create', { input => input('script:slow5') });
	my @e = map { $c->event->{data} } 1 .. 6;
	is_deeply $e[2]{stream_options}, { allow_cancel => JSON::XS::false }, 'switched off: Stop is not offered';
	$c->close;
	is_deeply ended('stays'), { state => 'done', content => 'One, two, three.', interrupted => 0 }, '... and the turn goes on';

	my $off = Parley::Test->new(pg => $pg, model => $model, workers => 1, conf => { 'chatkit.enabled' => 'no' });
	error_is($off->post('/api/chatkit', { type => 'threads.list', params => {} }),
	    404, 'not_found', 'the endpoint can be switched off');
};

subtest 'stopped and retried from elsewhere' => sub {
	my $s = Parley::ChatKit->new($t, 'stan');
	my $c = $s->begin('threads.create', { input => input('script:slow6') });
	my @e = map { $c->event->{data} } 1 .. 6;
	my $id = $e[0]{thread}{id};
	cancel($t, 'stan', $id, 1);
	push @e, map { $_->{data} } events($c);
	is kinds(@e), 'created item.done stream_options item.added added text_delta done item.done', 'the stream ends in order';
	is_deeply shown(@e), $s->items($id), 'screen and rows agree';

	# Its worker ends: another goes on, and whoever listened is told.
	$c = $s->begin('threads.add_user_message', { thread_id => $id, input => input('script:slow7') });
	@e = map { $c->event->{data} } 1 .. 6;
	$t->restart_pool;
	push @e, map { $_->{data} } events($c);
	is $e[-1]{type}, 'notice', 'a worker that ends says so';
	is state_of($pg, $id, 2), 'running', '... and stops nothing';
	cancel($t, 'stan', $id, 2);
};

is $t->pool->sickness, '', 'the workers are well';
done_testing;
