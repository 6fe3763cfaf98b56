# The page for everybody: what axe-core finds on each screen, a whole conversation by keyboard, languages and
# their direction, light and dark, narrow and wide, long conversations and long answers.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Node;
use Parley::Page;

binmode Test::More->builder->$_, ':utf8' for qw(output failure_output todo_output);

my $markdown = do { local (@ARGV, $/) = "$FindBin::Bin/page/answer.md"; my $x = <>; utf8::decode($x); $x };
my $long = join "\n\n", map { "## Part $_\n\nA paragraph with **bold** words and `code`, " . 'and more ' x 40 .
	"\n\n- one\n- two\n\n```c\nint part_$_(void) { return $_; }\n```" } 1 .. 220;

my ($t, $b) = Parley::Page::stack(scripts => {
	rich => text_reply(20, $markdown =~ /(.{1,60})/gs),
	slow => text_reply('One, ', 1200, 'two.'),
	long => text_reply($long =~ /(.{1,500})/gs),
	broken => "status 400\nheader Content-Type: application/json\nraw {\"error\":{\"message\":\"no\"}}\n",
});

my $axe = Parley::Node::dir() . '/node_modules/axe-core/axe.min.js';
my $source = -r $axe ? do { local (@ARGV, $/) = $axe; my $x = <>; utf8::decode($x); $x } : undef;

# What axe finds that is more than a matter of taste.
sub is_usable {
	my ($p, $name) = @_;
	SKIP: {
		skip 'axe-core is not there (scripts/node-packages.sh)', 1 unless $source;
		$p->eval("$source; 0") unless $p->eval('"axe" in window');
		my $found = $p->eval('axe.run(document, { resultTypes: ["violations"] }).then((r) => r.violations.filter((v) => v.impact === "serious" || v.impact === "critical")
		    .map((v) => `${v.id}: ${v.nodes.map((n) => `${n.target} ${n.any[0]?.message ?? ""}`).slice(0, 3).join("; ")}`))');
		is join("\n", @$found), '', "$name: axe finds nothing serious";
	}
}

# Nothing sticks out at the side.
sub fits {
	my ($p, $name, $width) = @_;
	$width //= 1280;
	is $p->eval("document.querySelector('.main').getBoundingClientRect().right > $width ||" . ' document.documentElement.scrollWidth > innerWidth || document.querySelector(".thread").scrollWidth > document.querySelector(".thread").clientWidth'),
	    JSON::XS::false, "$name: nothing sticks out";
}

subtest 'each screen, light and dark, narrow and wide' => sub {
	for my $how ({ width => 1280 }, { width => 1280, dark => 1 }, { width => 320, height => 640, touch => 1 }, { width => 390, height => 844, touch => 1, dark => 1 }) {
		my $name = "$how->{width} " . ($how->{dark} ? 'dark' : 'light');
		my $p = signed_in($t, $b, 'ada', %$how);
		is_usable($p, "$name welcome");
		fits($p, "$name welcome", $how->{width});
		$p->eval('document.querySelector("#message").focus()');
		$p->type('script:rich');
		$p->click('.send');
		$p->wait('document.querySelector(".turn")');
		settled($p);
		is $p->count('.prose table'), 1, "$name: a table";
		$p->wait('(() => { const s = document.querySelector(".thread"); return s.scrollHeight - s.scrollTop - s.clientHeight < 5; })()');
		is_usable($p, "$name answer");
		fits($p, "$name answer", $how->{width});
		$p->eval('document.querySelector("#message").focus()');
		$p->type('script:broken');
		$p->click('.send');
		$p->wait('document.querySelector(".notice")');
		is_usable($p, "$name error");
		fits($p, "$name error", $how->{width});
		$p->eval('document.querySelector("#message").focus()');
		$p->type('add task: Feed the cat');
		$p->click('.send');
		$p->wait('document.querySelector(".tool")');
		settled($p);
		$p->click('.tool summary');
		$p->wait('document.querySelector(".tool-body pre")');
		is_usable($p, "$name tool");
		fits($p, "$name tool", $how->{width});
		$p->eval('document.querySelector(".menu, .head > .only-narrow").click()') if $how->{touch};
		sleep 0.3 if $how->{touch};
		is_usable($p, "$name list");
		$p->eval('document.querySelector(".sidebar-head [aria-label=Settings]").click()');
		$p->wait('document.querySelector("dialog")');
		is_usable($p, "$name settings");
		is_quiet($p, $name, qr/status of 502/);
		$p->close;
	}
	my $p = $b->page;
	$p->go($t->url);
	$p->wait('document.querySelector("dialog #token")');
	is_usable($p, 'signing in');
	$p->close;
};

subtest 'Markdown' => sub {
	my $p = signed_in($t, $b, 'mark');
	say_to($p, 'script:rich');
	settled($p);
	my %count = (h4 => 1, table => 1, 'th' => 3, 'tbody tr' => 3, '.align-end' => 4, pre => 2, '.hl-keyword' => 1, 'ol ul li' => 2, '.task' => 2,
		'ol > li' => 3, blockquote => 1, del => 1, em => 2, strong => 2, 'p > code' => 1, hr => 1, 'a' => 3);
	for (sort keys %count) {
		my $n = $p->count(".prose $_");
		ok $n >= $count{$_}, "$_: $n";
	}
	$p->click('.code-copy');
	$p->wait('document.querySelector(".code-copy").innerText.includes("Cop")');
	my $parts = $p->eval('import("./js/markdown/render.js").then(({ Markdown }) => {
		const text = ' . JSON::XS->new->allow_nonref->encode($markdown) . ';
		const whole = new Markdown(), grown = new Markdown();
		whole.draw(text, true);
		for (let n = 0; n <= text.length; n += 3)
			grown.draw(text.slice(0, n), false);
		grown.draw(text, false);
		const plain = (m) => m.element.textContent;
		return [plain(whole), plain(grown)]; })');
	is $parts->[1], $parts->[0], 'piece by piece it becomes the same';
	my $wrong = $p->eval('import("./js/markdown/render.js").then(({ Markdown }) => {
		const bits = ["a", "b c", "\\n", "\\n", "\\n\\n", "- ", "1. ", "2) ", "  ", "    ", "> ", "# ", "```", "```js\\n", "~~~", "|", "|--|--|", "| x | y |\\n",
			"**", "*", "_", "~~", "`", "[", "](https://a.example)", "![", "<b>", "<br>", "---", "***", "- [x] ", "\\\\", "&amp;", "https://b.example/c ", "اردو", "\\t"];
		let seed = 7;
		const random = (n) => { seed = (seed * 1103515245 + 12345) % 2147483648; return Math.floor(seed / 2147483648 * n); };
		const wrong = [];
		for (let round = 0; round < 400 && wrong.length < 3; round++) {
			let text = "";
			const whole = new Markdown(), grown = new Markdown();
			for (let n = 0; n < 40; n++) {
				text += bits[random(bits.length)];
				grown.draw(text, false);
			}
			whole.draw(text, true);
			grown.draw(text, true);
			if (whole.element.innerHTML !== grown.element.innerHTML)
				wrong.push(text);
		}
		return wrong; })');
	is_deeply $wrong, [], '... whatever is written, in whatever pieces';
	is_quiet($p, 'Markdown');
};

subtest 'by keyboard alone' => sub {
	my $p = signed_in($t, $b, 'kay');
	is $p->eval('document.activeElement.id'), 'message', 'one may type at once';
	$p->type('My name is Kay');
	$p->key('Enter');
	settled($p);
	$p->type('first line');
	$p->key('Enter', shift => 1);
	$p->type('second line');
	is $p->eval('document.querySelector("#message").value'), "first line\nsecond line", 'Shift+Enter begins a line';
	$p->key('Enter');
	$p->wait('document.querySelectorAll(".turn").length === 2');
	settled($p);
	$p->type('add task: Walk the dog');
	$p->key('Enter');
	$p->wait('document.querySelector(".tool")');
	settled($p);
	ok $p->tab_to('.tool summary', 60), 'to a tool';
	$p->key('Enter');
	$p->wait('document.querySelector(".tool").open');
	ok $p->tab_to('.turn:last-child [aria-label="Ask again"]', 60), 'to asking again';
	$p->type('script:slow') if $p->eval('(document.querySelector("#message").focus(), true)');
	$p->key('Enter');
	$p->wait('!document.querySelector(".stop").hidden');
	$p->wait('document.querySelectorAll(".turn").length === 4');
	$p->wait('document.querySelector(".turn:last-child .prose")');
	$p->key('Escape');
	settled($p);
	is $p->eval('document.querySelector(".turn:last-child").dataset.state'), 'cancelled', 'Escape stops';
	$p->key('k', ctrl => 1);
	is $p->eval('document.activeElement.id'), 'search', 'Ctrl+K searches';
	$p->key('ArrowDown');
	ok $p->eval('document.activeElement.matches(".row a")'), 'down into the list';
	ok $p->tab_to('.row [aria-label^="Delete"]', 5), 'to deleting';
	$p->key('Enter');
	$p->wait('document.querySelector("dialog")');
	$p->key('Tab');
	$p->key('Enter');
	$p->wait('!document.querySelector("dialog") && document.querySelector(".welcome")');
	is_deeply $t->get('/api/conversations', user => 'kay')->{json}{conversations}, [], 'deleted';
	$p->key('o', ctrl => 1, shift => 1);
	is $p->eval('document.activeElement.id'), 'message', 'Ctrl+Shift+O begins a new one';
	is_quiet($p, 'keyboard');
};

subtest 'languages' => sub {
	my $p = signed_in($t, $b, 'lena');
	my %said = (de => ['ltr', 'Neue Unterhaltung'], ur => ['rtl', 'نئی گفتگو'], en => ['ltr', 'New chat']);
	for my $language (qw(de ur en)) {
		$p->click('.sidebar-head .icon-button');
		$p->wait('document.querySelector("#language")');
		$p->eval("(() => { const s = document.querySelector('#language'); window.before = 1; s.value = '$language'; s.dispatchEvent(new Event('change')); })()");
		$p->wait('!window.before && document.querySelector(".create")');
		is $p->eval('document.documentElement.lang'), $language, $language;
		is $p->eval('getComputedStyle(document.body).direction'), $said{$language}[0], '... its direction';
		is $p->text('.create span'), $said{$language}[1], '... its words';
		is_usable($p, $language);
		fits($p, $language);
	}
	my $missing = $p->eval('Promise.all(["en", "de", "ur"].map((l) => import(`./js/text/${l}.js`))).then(([en, ...others]) =>
		others.flatMap((o) => Object.keys(en.default).filter((k) => !(k in o.default))))');
	is_deeply $missing, [], 'every text is in every language';
	my $mentioned = $p->eval('Promise.all([...document.querySelectorAll("link[rel=modulepreload]")].map((l) => fetch(l.href).then((r) => r.text()))).then(async (all) => {
		const { default: en } = await import("./js/text/en.js");
		return all.concat(await (await fetch("js/app.js")).text()).flatMap((s) => [...s.matchAll(/\bt\("([\w.]+)"/g)].map((m) => m[1])).filter((k) => !(k in en)); })');
	is_deeply $mentioned, [], 'and every text that is asked for is there';
	is_quiet($p, 'languages');
};

subtest 'light and dark' => sub {
	my $p = signed_in($t, $b, 'dora', dark => 1);
	my $paper = 'getComputedStyle(document.body).backgroundColor';
	my $dark = $p->eval($paper);
	$p->click('.sidebar-head .icon-button');
	$p->wait('document.querySelector("dialog")');
	$p->click('dialog input[value=light]');
	$p->wait("$paper !== '$dark'");
	my $light = $p->eval($paper);
	pass 'the switch';
	$p->reload;
	is $p->eval($paper), $light, '... is remembered';
	$p->media(dark => 0);
	$p->eval('localStorage.setItem("parley.theme", "system")');
	$p->reload;
	is $p->eval($paper), $light, 'the system is asked';
	$p->media(dark => 1);
	$p->wait("$paper === '$dark'");
	pass '... and followed';
	is_quiet($p, 'themes');
};

subtest 'long ones' => sub {
	my $first = $t->chat('lou', 'My name is Lou')->{json};
	my $id = $first->{conversation_id};
	$t->chat('lou', "bench $_", conversation_id => $id) for 2 .. 250;
	my $p = signed_in($t, $b, 'lou');
	my $took = $p->eval("(async () => { const since = performance.now(); location.hash = '#/c/$id';
		while (document.querySelectorAll('.turn').length < 20) await new Promise(requestAnimationFrame);
		return performance.now() - since; })()");
	note sprintf 'a conversation of 500 messages: %.0f ms', $took;
	my $end = '(() => { const s = document.querySelector(".thread"); return s.scrollHeight - s.scrollTop - s.clientHeight; })()';
	$p->wait("$end < 5");
	pass 'it opens at its end';
	for (1 .. 30) {
		last if $p->count('.turn') >= 250;
		my $n = $p->count('.turn');
		$p->eval('document.querySelector(".thread").scrollTop = 0');
		$p->wait("document.querySelectorAll('.turn').length > $n");
	}
	is $p->count('.turn'), 250, 'it can be read to its beginning';
	is $p->count('.older:not([hidden])'), 0, '... where nothing is older';

	$p->eval('location.hash = "#/"');
	$p->wait('document.querySelector(".welcome")');
	$p->eval('window.gap = 0; (async () => { let last = performance.now(); for (;;) { await new Promise((r) => setTimeout(r, 5));
		const now = performance.now(); window.gap = Math.max(window.gap, now - last); last = now; } })(); 0');
	say_to($p, 'script:long');
	settled($p, 40);
	note sprintf 'an answer of %d KB: nothing took longer than %.0f ms', length($long) / 1024, $p->eval('gap');
	is $p->count('.prose h4'), 220, 'a long answer';
	is_quiet($p, 'long');
};

done_testing;
