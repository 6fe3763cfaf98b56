# A page of another origin asks Parley, in a real browser.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use JSON::XS ();
use Test::More;

use Parley::Browser;
use Parley::Front;
use Parley::Nginx;

my $why = Parley::Browser::missing();
plan skip_all => $why if $why;

my $JSON = JSON::XS->new->utf8->canonical->allow_nonref;
# Two hosts of pages: ports make origins.
my $listed = Parley::Front::neighbour();
my $unlisted = Parley::Front::neighbour();
my $p = Parley::Front::parts(conf => { 'cors.origins' => $listed->url });
my $nginx = Parley::Nginx->new(sockets => [$p->pool->socket], limit => 1, settings => sub {
	s{# "https://app\.example\.org"\t\$http_origin;}{"@{[$listed->url]}" \$http_origin;} or die 'no origin';
	s/burst=20/burst=100/ or die 'no burst';
});
my $api = $nginx->url;
ok Parley::Front::ready({ url => $api }), 'the server answers';

my $browser = Parley::Browser->new;

# A page that lives at that address; what is there is of no matter.
sub page_at {
	my ($host) = @_;
	my $page = $browser->page;
	$page->call('Page.navigate', { url => $host->url . '/page' });
	$page->wait('location.origin === ' . $JSON->encode($host->url) . ' && document.readyState === "complete"');
	return $page;
}

# { status, headers, body } as the page can see it, or { failed }.
sub fetch {
	my ($page, $path, %init) = @_;
	my ($url, $init) = map { $JSON->encode($_) } "$api$path", \%init;
	return $page->eval("fetch($url, $init).then(async (r) => ({ status: r.status, type: r.type,
		headers: Object.fromEntries(r.headers), body: await r.text() }), (e) => ({ failed: e.name }))");
}

my %auth = (Authorization => 'Bearer ' . Parley::Front::token('alice'));
my %post = (method => 'POST', headers => { %auth, 'Content-Type' => 'application/json', 'Idempotency-Key' => 'k-1', 'X-Request-Id' => 'mine-1' },
    body => '{"message":"script:plain"}');

subtest 'a listed origin' => sub {
	my $page = page_at($listed);
	my $r = fetch($page, '/api/chat', %post);
	is $r->{status}, 200, 'a turn, after a preflight' or diag explain $r;
	is $JSON->decode($r->{body})->{response}, 'Hello, world.', '... its answer';
	is $r->{headers}{'x-request-id'}, 'mine-1', '... X-Request-Id can be read';

	$r = fetch($page, '/api/conversations', headers => { Authorization => 'Bearer x' });
	is $r->{status}, 401, 'a refusal can be read';
	is $JSON->decode($r->{body})->{error_code}, 'invalid_token', '... and what it says';

	my $id = $JSON->decode(fetch($page, '/api/conversations', headers => \%auth)->{body})->{conversations}[0]{id};
	is fetch($page, "/api/conversations/$id", method => 'PATCH', headers => { %auth, 'Content-Type' => 'application/json' },
	    body => '{"title":"New"}')->{status}, 200, 'PATCH is allowed';
	is fetch($page, "/api/conversations/$id", method => 'DELETE', headers => \%auth)->{status}, 204, 'DELETE is allowed';

	my $url = $JSON->encode("$api/api/chat");
	my $init = $JSON->encode({ %post, headers => { %{$post{headers}}, Accept => 'text/event-stream', 'Idempotency-Key' => 'k-2' },
	    body => '{"message":"script:held"}' });
	my $first = $page->eval("fetch($url, $init).then(async (r) => { window.reader = r.body.getReader(); let text = '';
		while (!text.includes('The first. ')) text += new TextDecoder().decode((await reader.read()).value);
		return text; })");
	like $first, qr/^event: turn\n.*^event: delta$/ms, 'a stream is read as it comes, the model still holding back';
	my ($turn) = $first =~ /^data: (\{"conversation_id".*\})$/m;
	$turn = $JSON->decode($turn);
	is fetch($page, "/api/conversations/$turn->{conversation_id}/turns/1/cancel", method => 'POST', headers => \%auth)->{status}, 202,
	    '... and cancelled';
	like $page->eval("(async () => { let text = '', r; while (!(r = await reader.read()).done) text += new TextDecoder().decode(r.value);
		return text; })()"), qr/^event: done$/m, '... to its end';

	is fetch($page, '/api/health', credentials => 'include')->{failed}, 'TypeError', 'cookies are never allowed';
	$page->close;
};

subtest 'an origin that is not listed' => sub {
	my $page = page_at($unlisted);
	my $before = $p->pg->one('SELECT count(*) FROM parley.turns');
	is fetch($page, '/api/chat', %post)->{failed}, 'TypeError', 'a turn is refused by the browser';
	is fetch($page, '/api/health')->{failed}, 'TypeError', '... and nothing can be read';
	is fetch($page, '/api/chat', method => 'POST', mode => 'no-cors', headers => { 'Content-Type' => 'text/plain' },
	    body => '{"message":"Hello"}')->{type}, 'opaque', 'what a form could send is sent';
	is $p->pg->one('SELECT count(*) FROM parley.turns'), $before, '... and makes no turn';
	$page->close;
};

subtest 'what nginx says itself' => sub {
	my $page = page_at($listed);
	$p->pool->stop;
	my $r = fetch($page, '/api/health');
	is $r->{status}, 503, 'no workers: an origin that nginx knows reads why' or diag explain $r;
	is $JSON->decode($r->{body})->{error_code}, 'overloaded', '... what';
	is $r->{headers}{'retry-after'}, 1, '... and when to come again';
	is fetch(page_at($unlisted), '/api/health')->{failed}, 'TypeError', '... no other does';
};

is $p->pool->sickness, '', 'the workers are well';
done_testing;
