# Who is in front of the page, and what is not to be trusted: signing in and expired tokens, the
# policy it is served with, and a corpus of hostile text in every place where text can come from.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use Compress::Zlib ();
use File::Copy ();
use File::Find ();
use JSON::XS ();
use MIME::Base64 ();
use Test::More;

use Parley::Client;
use Parley::Contract;
use Parley::Nginx;
use Parley::Page;
use Parley::Process;

my $root = "$FindBin::Bin/..";

# Each would call canary() if anything took it for more than text.
my @hostile = (
	'<script>canary(1)</script>',
	'<img src=x onerror=canary(2)>',
	'<svg onload=canary(3)></svg>',
	'<iframe srcdoc="<script>parent.canary(4)</script>"></iframe>',
	'[click](javascript:canary(5))',
	'[click](JaVaScRiPt&colon;canary(6))',
	"[click](java\tscript:canary(7))",
	'[click](data:text/html,<script>canary(8)</script>)',
	'![x](x" onerror="canary(9))',
	'[x](https://a.example/" onmouseover="canary(10))',
	'<https://a.example/"onmouseover=canary(11)>',
	'`<img src=x onerror=canary(12)>`',
	"```html\n<script>canary(13)</script>\n```",
	"```\"><img src=x onerror=canary(14)>\ncode\n```",
	"| <img src=x onerror=canary(15)> | b |\n|---|---|\n| <script>canary(16)</script> | [c](javascript:canary(17)) |",
	'**<b onmouseover=canary(18)>bold</b>**',
	'<a href="javascript:canary(19)">link</a>',
	'[a](vbscript:canary(20)) [b](file:///etc/passwd) [c](//evil.example) [d](/api/conversations)',
	"<style>*{display:none}</style><meta http-equiv=refresh content='0;url=javascript:canary(21)'>",
	'<form action=javascript:canary(22)><button>x</button></form>',
	'</div></article><script>canary(23)</script>',
	'&lt;script&gt;canary(24)&lt;/script&gt;',
	'<math><mtext><table><mglyph><style><img src=x onerror=canary(25)>',
	'[x]: javascript:canary(26)' . "\n\n[x]",
	"\x{202e}gpj.exe\x{202c} \x{0000}" =~ tr/\0//dr,
	'{{constructor.constructor("canary(27)")()}} ${canary(28)}',
	'> ' x 200 . '<script>canary(29)</script>',
	'*' x 3000, '[' x 3000, '`' x 2999, '_a ' x 1500, '- ' x 1000, '[a](' x 800, '![' x 1500, '|' x 2000,
);
my $all = join "\n\n", @hostile;
my $canary = 'window.canaries = []; window.canary = (n) => window.canaries.push(n);';

my ($t, $b) = Parley::Page::stack(scripts => {
	hostile => text_reply($all =~ /(.{1,4000})/gs),
	tool => join("---\n", call_reply(add_task => { title => substr(join(' ', @hostile[0 .. 4]), 0, 190) }), text_reply($hostile[1])),
});

subtest 'how it is served' => sub {
	my $bytes = 0;
	my (@modules, %text);
	File::Find::find({ no_chdir => 1, wanted => sub {
		return unless -f;
		(my $name = $_) =~ s{^\Q$root\E/web/}{};
		my $r = Parley::Client->new($t->nginx->port, 'GET', "/$name", undef, { 'Accept-Encoding' => 'gzip' })->response;
		$bytes += length $r->{body};
		$text{$name} = ($r->{headers}{'content-encoding'} // '') eq 'gzip' ? Compress::Zlib::memGunzip($r->{body}) : $r->{body};
		like $r->{headers}{'content-security-policy'} // '', qr/script-src 'self';.*trusted-types 'none'/, "$name has the policy";
		push @modules, $name if $name =~ /\.js$/ && $name !~ m{theme|app\.js|text/(?!en)};
	} }, "$root/web");
	cmp_ok $bytes, '<', 100_000, "all of it: $bytes bytes";
	like $text{'index.html'}, qr/modulepreload" href="\Q$_\E"/, "$_ is loaded at once" for @modules;
	for my $name (sort keys %text) {
		unlike $text{$name}, qr/\binnerHTML\b|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function/, "$name parses no HTML and runs no text";
		unlike $text{$name} =~ s{http://www\.w3\.org/2000/svg}{}gr, qr{(?:src|href|url\(|import|fetch\()\W*(?:https?:)?//}, "$name names no other host";
	}
	unlike $text{'index.html'}, qr/ on\w+=|<style|style=|<script(?! (?:type="module" )?src=)/, 'nothing inline';
	is +Parley::Client->new($t->nginx->port, 'GET', '/js')->response->{status}, 404, 'folders are not listed';
};

subtest 'a token by hand' => sub {
	my $p = $b->page;
	$p->go($t->url);
	$p->wait('document.querySelector("dialog #token")');
	$p->key('Escape') for 1 .. 2;
	is $p->count('dialog'), 1, 'without one nothing goes on';
	$p->type('nonsense');
	$p->click('dialog .primary');
	$p->wait('document.querySelector(".problem").innerText !== ""');
	like $p->text('.problem'), qr/three parts/, 'what cannot be a token is told from one';
	$p->eval('document.querySelector("#token").value = ""; document.querySelector("#token").focus()');
	$p->type($t->token('harry'));
	$p->click('dialog .primary');
	$p->wait('!document.querySelector("dialog")');
	say_to($p, 'My name is Harry');
	settled($p);
	is_rows($t, 'harry', $p, 'it works');
	is_quiet($p, 'by hand');
};

subtest 'an expired token' => sub {
	my $p = $b->page;
	$p->go($t->url . '/#token=' . $t->token('hetty', exp => time - 100));
	$p->wait('document.querySelector("dialog #token")');
	like $p->text('dialog'), qr/expired/, 'it says so';
	$p->eval('document.querySelector("#token").focus()');
	$p->type($t->token('hetty'));
	$p->click('dialog .primary');
	$p->wait('!document.querySelector("dialog")');
	$p->eval('document.querySelector("#message").focus()');
	$p->type('My name is Hetty');
	# It expires while something is being written: what was written arrives all the same.
	$p->call('Page.addScriptToEvaluateOnNewDocument', { source => 'window.refuse = 1; const real = fetch;
		window.fetch = (url, o) => window.refuse && o?.method === "POST" ? (window.refuse--,
		    Promise.resolve(new Response("{\"error_code\":\"token_expired\"}", { status: 401, headers: { "Content-Type": "application/json" } }))) : real(url, o);' });
	$p->wait('localStorage.length > 1');
	$p->reload;
	is $p->eval('document.querySelector("#message").value'), 'My name is Hetty', 'the draft is there';
	$p->eval('document.querySelector("#message").focus()');
	$p->key('Enter');
	$p->wait('document.querySelector("dialog #token")');
	$p->eval('document.querySelector("#token").focus()');
	$p->type($t->token('hetty', iat => time - 5));
	$p->click('dialog .primary');
	settled($p);
	is_rows($t, 'hetty', $p, 'sent once there is a new one');
	is_quiet($p, 'expired', qr/status of 401/);
};

# The site's cookie: a folder of its own with a config.json, and a file that gives the token.
subtest 'a token from the site' => sub {
	my $dir = Parley::Process::tempdir();
	system 'cp', '-r', "$root/web", "$dir/web";
	my $write = sub {
		my ($name, $value) = @_;
		open my $fh, '>', "$dir/web/$name" or die "$name: $!";
		print $fh JSON::XS->new->canonical->encode($value);
		close $fh;
	};
	$write->('config.json', { name => 'Acme <b>Help</b>', token_url => 'token.json', sign_in_url => '/', suggestions => [$hostile[0]] });
	$write->('token.json', { token => $t->token('sid', exp => time - 50) });
	my $nginx = Parley::Nginx->new(sockets => [$t->pool->socket], web => "$dir/web");
	my $p = $b->page;
	$p->go($nginx->url);
	$p->wait('document.querySelector("dialog")');
	like $p->text('dialog'), qr/expired.*signed in/s, 'a cookie that gives nothing good';
	$write->('token.json', { token => $t->token('sid') });
	$p->click('dialog .primary');
	$p->wait('!document.querySelector("dialog") && document.querySelector(".list-note")');
	is $p->text('.brand'), 'Acme <b>Help</b>', 'the name is the operator\'s';
	is $p->text('.suggestions button'), $hostile[0], '... and what is suggested';
	say_to($p, 'My name is Sid');
	settled($p);
	is $t->get('/api/conversations', user => 'sid')->{json}{conversations}[0]{turns}, 1, 'it works';
	is $p->eval('JSON.stringify(Object.entries(localStorage))') =~ /eyJ/, '', 'the token is in no storage';
	is_quiet($p, 'the site', qr/status of 401/);
	undef $nginx;
	system 'rm', '-rf', $dir;
};

subtest 'hostile text is text' => sub {
	my $p = signed_in($t, $b, 'mallory', before => $canary);
	my $since = time;
	say_to($p, 'script:hostile');
	settled($p, 30);
	cmp_ok time - $since, '<', 15, 'none of it takes long';
	is_deeply $p->eval('canaries'), [], 'an answer';
	my $id = conversation_of($p);
	is_deeply $p->eval('[...new Set([...document.querySelectorAll(".prose a")].map((a) => a.protocol))].sort()'), ['https:'], 'links go where they may';
	is $p->eval('[...document.querySelectorAll(".prose a")].every((a) => a.rel.includes("noopener") && a.target === "_blank")'), JSON::XS::true, '... alone';
	is $p->eval('document.querySelectorAll(".prose :is(script, img, iframe, style, form, math, object, embed, meta)").length'), 0, 'no element that is not ours';
	like $p->text('.prose'), qr/<script>canary\(1\)<\/script>.*<img src=x onerror=canary\(2\)>/s, 'it is there to be read';
	$p->eval('document.querySelectorAll(".prose a").forEach((a) => a.dispatchEvent(new MouseEvent("mouseover", { bubbles: true })))');
	$t->patch("/api/conversations/$id", { title => substr(join('', @hostile[0 .. 3]), 0, 200) }, user => 'mallory');
	$p->reload;
	$p->wait('document.querySelector(".prose") && document.querySelector(".row")');
	is $p->text('.head h1'), substr(join('', @hostile[0 .. 3]), 0, 200), 'a title';

	$p->eval('location.hash = "#/"');
	$p->wait('document.querySelector(".welcome")');
	for my $text (@hostile[0 .. 4]) {
		say_to($p, $text);
		settled($p);
	}
	is_deeply [$p->texts('.bubble')], [@hostile[0 .. 4]], 'a person\'s message';
	say_to($p, 'script:tool');
	settled($p);
	$p->click('.turn:last-child .tool summary');
	$p->wait('document.querySelectorAll(".tool-body pre").length >= 2');
	like +($p->texts('.tool-body pre'))[0], qr/<script>canary\(1\)<\/script>/, 'a tool\'s arguments and result';
	$p->eval(q{location.hash = '#/c/<img src=x onerror=canary(99)>'});
	$p->wait('document.querySelector(".welcome")');
	is_deeply $p->eval('canaries'), [], 'nothing has run';
	is_quiet($p, 'hostile');
};

# As if the operator's config.json said so.
my $key = 'const real = window.fetch; window.fetch = (url, options) => String(url).endsWith("config.json")
    ? Promise.resolve(new Response(JSON.stringify({ chatkit: { domain_key: "local-dev" } }))) : real(url, options);';

subtest "OpenAI's element instead of the page" => sub {
	my $p = signed_in($t, $b, 'kit', before => $key);
	ok $p->count('.composer'), 'where the policy does not allow it, the page is there';

	# An element of that name, and a script that loads as if it had been allowed.
	$p = $b->page;
	$p->call('Page.addScriptToEvaluateOnNewDocument', { source => $key . q{
		customElements.define("openai-chatkit", class extends HTMLElement { setOptions(o) { window.kit = o; } });
		Object.defineProperty(HTMLScriptElement.prototype, "src", { set(url) {
			window.asked = url;
			setTimeout(() => this.dispatchEvent(new Event("load")));
		} });} });
	$p->call('Page.navigate', { url => $t->url . '/#token=' . $t->token('kit') });
	$p->wait('window.kit');
	like $p->eval('window.asked'), qr{^https://[a-z.]+\.openai\.com/}, 'it is asked for where it lives';
	is $p->eval('document.body.firstElementChild.localName'), 'openai-chatkit', '... and takes the place of the page';
	is $p->eval('window.kit.api.domainKey'), 'local-dev', '... with the key';
	is $p->eval('window.kit.api.url'), $t->url . '/api/chatkit', '... and our address';
	is $p->eval(q{window.kit.api.fetch(window.kit.api.url, { method: "POST", headers: { "Content-Type": "application/json" },
	    body: JSON.stringify({ type: "threads.list", params: {} }) }).then((r) => r.status)}), 200, '... where its requests have a token';
};

done_testing;
