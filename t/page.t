# The page at work, in a browser: messages, answers as they come, tools, stopping, asking again,
# several conversations, reloads and lost networks.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Page;
use Parley::Process;

my @many = map { (60, "word$_ ") } 1 .. 40;
my ($t, $b) = Parley::Page::stack(
	conf => { 'limits.message' => 2000 },
	scripts => {
		slow => text_reply('One, ', 700, 'two, ', 700, 'three.'),
		many => text_reply(@many),
		other => text_reply(map { (60, "thing$_ ") } 1 .. 40),
		late => text_reply(2300, 'Here at last.'),
		cards => join("---\n", call_reply(add_task => { title => 'Seen early' }), text_reply(8000, 'It is there.')),
		endless => text_reply('On ', map { (100, "and on $_ ") } 1 .. 200),
		twice => join("---\n", text_reply('The first answer.'), text_reply('The second answer.')),
		broken => join("---\n", "status 400\nheader Content-Type: application/json\nraw {\"error\":{\"message\":\"no\"}}\n",
		    text_reply('Better now.')),
		tools => join("---\n", call_reply(add_task => { title => 'Water the plants' }, complete_task => { task_id => 999 }),
		    text_reply('Added ', 300, 'it.')),
		ask => join("---\n", call_reply(delete_task => { task_id => 1 }), text_reply('So ', 300, 'be it.')),
		asks => join("---\n", call_reply(delete_task => { task_id => 1 }, delete_task => { task_id => 2 }), text_reply('Seen to.')),
		tall => text_reply(map { (30, "Line $_\n\n") } 1 .. 60),
	});

subtest 'a message, and the answer as it comes' => sub {
	my $p = signed_in($t, $b, 'alice');
	like $p->text('.welcome h2'), qr/^Good /, 'a greeting where nothing is yet';
	is $p->eval('location.hash'), '', 'the token is out of the address';
	is $p->eval('history.length'), 2, '... and not behind the back button';
	say_to($p, 'script:slow');
	$p->wait('document.querySelector(".bubble")?.innerText === "script:slow"', 2);
	pass 'the message is there at once';
	$p->wait('document.querySelector(".prose")?.innerText.includes("One,")');
	unlike $p->text('.prose'), qr/three/, 'the beginning is shown before the end is there';
	is $p->eval('document.querySelector(".stop").hidden'), JSON::XS::false, '... and can be stopped';
	$p->wait('document.querySelector(".row a[aria-current]")?.innerText.includes("script:slow") && document.querySelector(".badge-running")');
	pass 'the conversation is in the list, as running';
	settled($p);
	is $p->text('.prose'), 'One, two, three.', 'the whole answer';
	$p->wait('document.querySelector(".stop").hidden && !document.querySelector(".badge")');
	like $p->text('.message-user time'), qr/^\d+:\d\d [AP]M$/, 'a time';
	is $p->text('.message-user .who'), 'You', 'attribution';
	is $p->text('.message-assistant .who'), 'Parley', '... of both';
	my ($asked) = grep { $_->{body}{messages}[-1]{content} eq 'script:slow' } $t->model->requests;
	like(JSON::XS->new->encode($asked->{body}{messages}), qr/UTC|Etc/, 'the model was told the zone');
	is_rows($t, 'alice', $p, 'what is shown is what is stored');
	like $p->eval('document.title'), qr/script:slow · Parley/, 'the title of the window';
	like $p->eval('document.querySelector("[role=log]").innerText'), qr/Parley is answering.*One, two, three\./s, 'a screen reader has heard it';
	is_quiet($p, 'a message');
};

subtest 'tools are cards' => sub {
	my $p = signed_in($t, $b, 'tina');
	say_to($p, 'script:tools');
	settled($p);
	is_deeply [$p->texts('.tool-name')], [qw(add_task complete_task)], 'their names';
	is_deeply [$p->texts('.tool-word')], [qw(Done Failed)], '... how they went';
	like $p->text('.tool-glimpse'), qr/title: Water the plants/, '... what they were asked';
	is $p->count('.tool-body pre'), 0, 'closed';
	$p->click('.tool summary');
	$p->wait('document.querySelectorAll(".tool-body pre").length === 2');
	my ($asked, $got) = $p->texts('.tool-body pre');
	is_deeply JSON::XS::decode_json($asked), { title => 'Water the plants' }, 'open: the arguments';
	is +JSON::XS::decode_json($got)->{title}, 'Water the plants', '... and the result';
	$p->click('.tool summary');
	$p->wait('!document.querySelector(".tool").open');
	is_rows($t, 'tina', $p, 'what is shown is what is stored');
	is_quiet($p, 'tools');
};

subtest 'approvals' => sub {
	my $p = signed_in($t, $b, 'paula');
	$t->chat('paula', "add task: $_") for qw(Apples Beans);
	say_to($p, 'script:ask');
	$p->wait('document.querySelector(".approval:not([hidden])")');
	is_deeply [split ' ', $p->text('.ask-call') =~ s/\s+/ /gr], [qw(delete_task { "task_id": 1 })], 'exactly what will run';
	is $p->text('.tool-word'), 'Waiting for you', 'the call waits';
	$p->wait('document.querySelector(".badge-approval_required")');
	pass '... and the list says so';
	$p->reload;
	$p->wait('document.querySelector(".approval:not([hidden])")');
	pass 'a reload does not lose the question';
	$p->click('.approval .primary');
	$p->wait('document.querySelector(".prose")?.innerText === "So be it."');
	settled($p);
	pass 'approved: the turn goes on';
	is_deeply [$p->texts('.tool-word')], ['Done'], '... the call once';
	is_rows($t, 'paula', $p, '... and is what is stored');
	my $left = $t->chat('paula', 'show my tasks')->{json}{response};
	unlike $left, qr/Apples/, '... and done';

	$p->eval('location.hash = "#/"');
	$p->wait('document.querySelector(".welcome")');
	$t->chat('paula', 'add task: Corn');
	say_to($p, 'script:asks');
	$p->wait('document.querySelectorAll(".ask").length === 2');
	$p->click('.ask:nth-of-type(2) .buttons button:last-child');
	is $p->count('[aria-pressed=true]'), 1, 'of several each is decided by itself';
	$p->click('.ask .buttons button:last-child');
	$p->wait('document.querySelector(".prose")?.innerText === "Seen to."');
	settled($p);
	pass 'denied: the turn goes on';
	like $t->chat('paula', 'show my tasks')->{json}{response}, qr/Beans/, '... and nothing is deleted';

	$t->model->script('ask-again', join "---\n", call_reply(delete_task => { task_id => 2 }), text_reply('As you wish.'));
	say_to($p, 'script:ask-again');
	$p->wait('document.querySelector(".approval:not([hidden])")');
	$p->eval('document.querySelector("#message").focus()');
	$p->type('no');
	$p->key('Enter');
	$p->wait('[...document.querySelectorAll(".prose")].at(-1)?.innerText === "As you wish."');
	settled($p);
	is $p->count('.turn'), 2, 'a no in words is part of the turn that asked';
	is_rows($t, 'paula', $p, '... and is what is stored');

	$t->model->script('ask-last', join "---\n", call_reply(delete_task => { task_id => 2 }), text_reply('Then not.'));
	say_to($p, 'script:ask-last');
	$p->wait('document.querySelector(".approval:not([hidden])")');
	say_to($p, 'My name is Paula');
	$p->wait('document.querySelectorAll(".turn[data-state=done]").length === 4');
	is $p->count('.approval:not([hidden])'), 0, 'any other message is a no, and the next turn';
	is_rows($t, 'paula', $p, '... and is what is stored');
	is_quiet($p, 'approvals');
};

subtest 'stop' => sub {
	my $p = signed_in($t, $b, 'stella');
	say_to($p, 'script:endless');
	$p->wait('document.querySelector(".prose")?.innerText.includes("and on 3")');
	$p->click('.stop');
	settled($p);
	like $p->text('.turn-foot'), qr/Stopped\./, 'it says so';
	like $p->text('.prose'), qr/^On and on 1/, '... and keeps what there was';
	is $p->eval('document.activeElement.id'), 'message', 'the keyboard is where it can go on';
	say_to($p, 'My name is Stella');
	settled($p);
	is $p->count('.turn[data-state=done]'), 1, 'the next message goes through';
	is_quiet($p, 'stop');
};

subtest 'asking again' => sub {
	my $p = signed_in($t, $b, 'rita');
	say_to($p, 'script:twice');
	settled($p);
	is $p->text('.prose'), 'The first answer.', 'an answer';
	$p->click('[aria-label="Ask again"]');
	$p->wait('document.querySelector(".prose")?.innerText === "The second answer."');
	settled($p);
	is $p->count('.turn'), 1, 'another in its place';
	is_rows($t, 'rita', $p, '... also in the rows');

	say_to($p, 'script:broken');
	$p->wait('document.querySelector(".notice")');
	like $p->text('.notice'), qr/The model answered something unusable/, 'an error in words';
	like $p->text('.notice'), qr/Request [0-9a-f-]{8}/, '... with the id of the request';
	is $p->count('.actions [aria-label="Ask again"]'), 0, 'what is not the last cannot be asked again';
	$p->click('.notice .buttons button');
	$p->wait('[...document.querySelectorAll(".prose")].at(-1)?.innerText === "Better now."');
	is $p->count('.notice'), 0, 'trying again helps, and the error is gone';
	is_quiet($p, 'again', qr/status of 502/);
};

subtest 'messages wait for their turn' => sub {
	my $p = signed_in($t, $b, 'quinn');
	say_to($p, 'script:slow');
	$p->wait('document.querySelector(".prose")');
	say_to($p, 'My name is Quinn');
	say_to($p, 'What is my name?');
	$p->wait('document.querySelectorAll(".turn[data-state=queued]").length === 2');
	like +($p->texts('.receipt-note'))[1], qr/Waiting for its turn/, 'it says that it waits';
	settled($p);
	is_deeply [$p->texts('.bubble')], ['script:slow', 'My name is Quinn', 'What is my name?'], 'in the order in which they were written';
	like +($p->texts('.prose'))[2], qr/Quinn/, 'the last knows of the one before';
	is_rows($t, 'quinn', $p, 'what is shown is what is stored');
	is_quiet($p, 'queue');
};

subtest 'two conversations at once' => sub {
	my $p = signed_in($t, $b, 'wanda');
	say_to($p, 'script:many');
	my $one = conversation_of($p);
	$p->wait('document.querySelector(".prose")');
	$p->eval('document.querySelector("#message").focus()');
	$p->type('a draft of the first');
	$p->click('.create');
	$p->wait('document.querySelector(".welcome")');
	is $p->eval('document.querySelector("#message").value'), '', 'a new one has no draft';
	say_to($p, 'script:other');
	$p->wait('location.hash.startsWith("#/c/") && !location.hash.includes("' . $one . '")');
	my $two = conversation_of($p);
	my $mixed = 0;
	for my $id ($one, $two, $one, $two, $one, $two) {
		$p->eval("location.hash = '#/c/$id'");
		$p->wait('document.querySelector(".prose")?.innerText.length > 5');
		my $text = $p->text('.turns');
		$mixed++ if $text =~ ($id eq $one ? qr/thing|other/ : qr/word|many/);
		is $p->eval('document.querySelector("#message").value'), $id eq $one ? 'a draft of the first' : '', 'its own draft';
		sleep 0.15;
	}
	is $mixed, 0, 'no text of one in the other';
	for my $id ($one, $two) {
		$p->eval("location.hash = '#/c/$id'");
		$p->wait('document.querySelector(".turn")');
		settled($p, 20);
		is_rows($t, 'wanda', $p, 'what is shown is what is stored');
	}
	is_quiet($p, 'two');
};

subtest 'a reload in the middle, and another tab' => sub {
	my $p = signed_in($t, $b, 'rosa');
	say_to($p, 'script:many');
	$p->wait('document.querySelector(".prose")?.innerText.includes("word4")');
	$p->type('not sent yet');
	my $tab = $b->page(beside => $p);
	$tab->go($p->eval('location.href'));
	$p->reload;
	$p->wait('document.querySelector(".prose")?.innerText.includes("word8")');
	is $p->eval('document.querySelector("#message").value'), 'not sent yet', 'the draft is still there';
	settled($_, 20) for $p, $tab;
	is_rows($t, 'rosa', $_, 'it went on') for $p, $tab;
	is $p->count('.turn'), 1, 'nothing twice';
	$tab->eval('document.querySelector("#message").value = ""');
	say_to($tab, 'My name is Rosa');
	$p->wait('document.querySelectorAll(".turn[data-state=done]").length === 2');
	pass 'what one tab says, the other shows';
	is_quiet($p, 'reload');
	is_quiet($tab, 'the tab');
};

subtest 'the network is lost and comes back' => sub {
	my $p = signed_in($t, $b, 'nora');
	say_to($p, 'script:many');
	$p->wait('document.querySelector(".prose")?.innerText.includes("word3")');
	$p->offline(1);
	say_to($p, 'My name is Nora');
	$p->wait('/offline/i.test(document.querySelectorAll(".receipt-note")[1]?.innerText ?? document.querySelector(".receipt-note")?.innerText ?? "")');
	pass 'a message that cannot be sent says why';
	$p->offline(0);
	settled($p, 25);
	is_rows($t, 'nora', $p, 'it goes on where it was, and the message arrives once');
	is $p->count('.turn'), 2, '... two turns';
	is_quiet($p, 'network', qr/ERR_INTERNET_DISCONNECTED/);
};

subtest 'the server goes away in the middle' => sub {
	my $p = signed_in($t, $b, 'gina');
	say_to($p, 'script:many');
	$p->wait('document.querySelector(".prose")?.innerText.includes("word3")');
	$t->nginx->stop;
	$p->wait('document.querySelector(".status-lost")');
	like $p->text('.status-lost'), qr/Reconnecting/, 'it says that it looks for it';
	$t->nginx->start;
	settled($p, 25);
	is_rows($t, 'gina', $p, 'it goes on after the last event');
	my ($resumed) = grep { $_->{url} =~ m{/events$} } $p->requests;
	ok $resumed->{headers}{'Last-Event-ID'}, '... which it names';
	is_quiet($p, 'server', qr/ERR_(?:CONNECTION|INCOMPLETE|EMPTY|NETWORK)/);
};

subtest 'a message arrives, and once' => sub {
	# "lost": the answer to a POST never comes back; "cut": it does not even leave.
	my $p = signed_in($t, $b, 'olga', before => <<~'END');
		const real = window.fetch;
		window.fetch = async (url, o) => {
			const how = o?.method === "POST" ? sessionStorage.how : undefined;
			if (how === "lost") {
				sessionStorage.removeItem("how");
				await real(url, { ...o, signal: undefined });
			}
			if (how)
				throw new TypeError("Failed to fetch");
			return real(url, o);
		};
		END
	$p->eval('sessionStorage.how = "lost"');
	say_to($p, 'script:slow');
	settled($p);
	is_rows($t, 'olga', $p, 'an answer that was lost: sent again with the same key');
	is $t->get('/api/conversations', user => 'olga')->{json}{conversations}[0]{turns}, 1, '... it is one turn';

	$p->eval('sessionStorage.how = "cut"');
	say_to($p, 'My name is Olga');
	$p->wait('document.querySelectorAll(".receipt-note").length > 0');
	$p->reload;
	$p->wait('document.querySelectorAll(".turn").length === 2');
	pass 'one that has not left survives a reload';
	$p->eval('sessionStorage.removeItem("how"); dispatchEvent(new Event("online"))');
	$p->wait('document.querySelectorAll(".turn[data-state=done]").length === 2');
	is_rows($t, 'olga', $p, '... and arrives');
	is $p->eval('Object.keys(localStorage).filter((k) => k.includes("outbox")).length'), 0, 'nothing is left to be sent';
	is_quiet($p, 'once');
};

# Event streams as a buffer on the way shows them: "silent" never, "whole" at their end, heads and all.
sub held_back {
	my ($how, $patience) = @_;
	return <<~"END";
		const real = window.fetch, later = window.setTimeout;
		window.setTimeout = (f, ms, ...rest) => later(f, ms > 5000 ? ms / $patience : ms, ...rest);
		window.streams = 0;
		window.fetch = async (...args) => {
			const answer = await real(...args);
			if (!(answer.headers.get("Content-Type") ?? "").startsWith("text/event-stream"))
				return answer;
			window.streams++;
			if ("$how" === "silent")
				return new Response(new ReadableStream({}), { status: 200, headers: answer.headers });
			return new Response(await answer.blob(), { status: 200, headers: answer.headers });
		};
		END
}

subtest 'a host that holds streams back for ever' => sub {
	my $p = signed_in($t, $b, 'hana', before => held_back('silent', 20));
	say_to($p, 'script:slow');
	settled($p, 20);
	is_rows($t, 'hana', $p, 'the answer comes all the same');
	is +@{$t->get('/api/conversations', user => 'hana')->{json}{conversations}}, 1, '... and once';
	say_to($p, "My name is Number $_"), settled($p, 20) for 1 .. 3;
	is_rows($t, 'hana', $p, 'the next ones, too');
	is $p->eval('window.streams'), 2, '... and after two streams no other is asked for';
	is_quiet($p, 'no streams');
};

subtest 'a host that holds streams back to their end' => sub {
	my $p = signed_in($t, $b, 'hugo', before => held_back('whole', 1));
	say_to($p, $_), settled($p, 20) for 'script:late', 'My name is Hugo', 'script:late';
	is_rows($t, 'hugo', $p, 'all answers come');
	is $p->eval('window.streams'), 3, '... as streams';
	say_to($p, 'What is my name?'), settled($p, 20);
	is $p->eval('window.streams'), 3, 'after two that took long the page knows';
	say_to($p, 'script:many');
	$p->wait('location.hash.startsWith("#/c/") && document.querySelectorAll(".turn")[4]?.dataset.state === "running"');
	$p->wait('document.querySelectorAll(".turn")[4].dataset.state !== "sending"');
	settled($p, 20);
	is_rows($t, 'hugo', $p, 'a turn that takes longer as well');
	is_quiet($p, 'held back');
};

subtest 'told to do without streams' => sub {
	my $plain = held_back('silent', 1) =~ s{const answer = await real}{if (args[0] === "config.json")
				return new Response('{"streams": false}', { status: 200 });
			const answer = await real}r;
	my $p = signed_in($t, $b, 'ines', before => $plain);
	say_to($p, 'script:cards');
	$p->wait('document.querySelector(".tool-name")', 12);
	is $p->text('.tool-name'), 'add_task', 'what tools do is seen while the turn is at work';
	is $p->eval('document.querySelector(".turn").dataset.state'), 'running', '... which it is';
	settled($p, 20);
	is_rows($t, 'ines', $p, 'its end');
	say_to($p, 'script:endless');
	sleep 3;
	$p->click('.stop');
	settled($p, 10);
	like $p->text('.turn:last-child .turn-foot'), qr/Stopped\./, 'it can be stopped';
	is $p->eval('window.streams'), 0, 'no stream was asked for';
	is_quiet($p, 'told');
};

subtest 'scroll' => sub {
	my $p = signed_in($t, $b, 'sven', height => 600);
	my $distance = '(() => { const s = document.querySelector(".thread"); return s.scrollHeight - s.scrollTop - s.clientHeight; })()';
	say_to($p, 'script:tall');
	$p->wait('document.querySelectorAll(".prose p").length > 20');
	$p->wait("$distance < 60");
	pass 'it follows what is written';
	$p->eval('document.querySelector(".thread").scrollTop = 50');
	$p->wait('!document.querySelector(".jump").hidden');
	settled($p);
	is $p->eval('document.querySelector(".thread").scrollTop'), 50, 'it stays where the reader has put it';
	$p->click('.jump');
	$p->wait("$distance < 5 && document.querySelector('.jump').hidden");
	pass 'and jumps to the latest';
	is_quiet($p, 'scroll');
};

subtest 'conversations' => sub {
	my $p = signed_in($t, $b, 'carla');
	$t->chat('carla', "My name is Number $_") for 1 .. 34;
	$p->reload;
	$p->wait('document.querySelectorAll(".row").length === 30');
	$p->click('.more');
	$p->wait('document.querySelectorAll(".row").length === 34');
	like $p->text('.row'), qr/Number 34/, 'newest first, page by page';

	$p->eval('document.querySelector("#search").focus()');
	$p->type('number 17');
	$p->wait('document.querySelectorAll(".row").length === 1');
	$p->click('.row a');
	$p->wait('document.querySelector(".bubble")?.innerText === "My name is Number 17"');
	my $id = conversation_of($p);
	$p->click('.head-actions [aria-label="Rename"]');
	$p->wait('document.querySelector("dialog input")');
	$p->type('Seventeen, <b>renamed</b>');
	$p->key('Enter');
	$p->wait('document.querySelector(".head h1").innerText === "Seventeen, <b>renamed</b>"');
	is $t->get("/api/conversations/$id", user => 'carla')->{json}{conversation}{title}, 'Seventeen, <b>renamed</b>', 'renamed';
	$p->eval('document.querySelector("#search").focus(); document.querySelector("#search").select()');
	$p->key('Escape');
	$p->wait('document.querySelectorAll(".row").length > 20');

	$p->click('.head-actions [aria-label="Delete"]');
	$p->wait('document.querySelector("dialog .danger")');
	$p->key('Escape');
	$p->wait('!document.querySelector("dialog")');
	is $t->get("/api/conversations/$id", user => 'carla')->{status}, 200, 'Escape deletes nothing';
	$p->click('.head-actions [aria-label="Delete"]');
	$p->click('dialog .danger');
	$p->wait('document.querySelector(".welcome")');
	is $t->get("/api/conversations/$id", user => 'carla')->{status}, 404, 'deleted';
	$p->eval("location.hash = '#/c/$id'");
	$p->wait('document.querySelector(".thread-note .notice")');
	like $p->text('.thread-note'), qr/does not exist/, 'an old link says what is the matter';
	is_quiet($p, 'conversations', qr/status of 404/);
};

done_testing;
