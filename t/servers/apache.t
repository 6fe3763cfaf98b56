# Apache before Parley, with the shipped files: mod_fcgid as shared hosting has it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Apache;
use Parley::Browser;
use Parley::Contract;
use Parley::Front;
use Parley::Page;
use Parley::Process;

my $missing = Parley::Apache::missing('fcgid');
plan skip_all => $missing if $missing;

sub wait_for(&;$) { goto &Parley::Process::wait_for }

# As mod_fcgid ends a worker: it is asked, and another is started for the next request.
sub ended {
	my ($a) = @_;
	my @pids = $a->workers;
	kill 'TERM', @pids;
	return wait_for { !grep { Parley::Process::lives($_) } @pids } 20;
}

sub suite_of_host {
	my ($name, $a, $p, %opt) = @_;
	Parley::Front::suite(name => $name, url => $a->url, test => $p, page => 1, slash => 0, own => 'early',
	    restart => sub { ended($a) }, %opt);
}

sub settings_of { my ($a) = @_; return $a->home . '/parley/parley.env' }

my $scripts = { %{Parley::Front::scripts()},
	killed => join("---\n", call_reply(add_task => { title => 'Once' }), "hang\n", text_reply('All the same.')),
	minute => text_reply('Long, ', 3500, 'longer, ', 3500, 'there.'),
};
my $model = Parley::Model->new(scripts => $scripts);
my $p = Parley::Front::parts(how => 'server', model => $model, conf => { 'turn.lease' => '3s' });
my $pg = $p->pg;

subtest 'mod_fcgid, .htaccess alone' => sub {
	my $a = Parley::Apache->hosted($p);
	suite_of_host('requests', $a, $p, streams => 0);
	starter_ok($a);
	lives_ok($a);
	one_role_ok($a);
	page_ok($a);
};

subtest 'mod_fcgid without its buffer' => sub {
	my $a = Parley::Apache->hosted($p, host => 'FcgidOutputBufferSize 0');
	suite_of_host('requests', $a, $p, streams => 1);
};

sub health { my ($a) = @_; return Parley::Front::ask({ url => $a->url }, 'GET', '/api/health', undef, token => undef) }

# What the starter refuses, and that it is parleyctl under another name.
sub starter_ok {
	my ($a) = @_;
	my $f = { url => $a->url };
	my $env = settings_of($a);
	my $was = do { open my $fh, '<', $env or die; local $/; <$fh> };
	my $refused = sub {
		my ($like, $name) = @_;
		ended($a);
		error_is(health($a), 500, 'internal_error', $name);
		my $said = wait_for { $a->log_text =~ $like } 10;
		ok $said, '... and the log says why' or diag $a->log_text;
	};
	my $add = sub { open my $fh, '>', $env or die; print $fh $was, $_[0]; close $fh };

	subtest 'the starter' => sub {
		chmod 0640, $env;
		$refused->(qr/parley: others can read \S+parley\.env: chmod 600/, 'settings that others can read');
		chmod 0600, $env;
		for (["PARLEY_MODEL_MODEL=\"x\"\n", qr/line \d+: no quotes/], ["\$(touch x)=1\n", qr/line \d+: not NAME=value/],
			["NAME-x=1\n", qr/line \d+: a name has/], ["PARLEY_MODEL_NONSENSE=1\n", qr/there is no setting PARLEY_MODEL_NONSENSE/]) {
			$add->($_->[0]);
			$refused->($_->[1], 'a line that is none');
		}
		$add->("PARLEY_AGENT_MAX_STEPS=5\r\nX_Y=\$(touch $env.touched) `id` a=b 'c'\n");
		ended($a);
		is health($a)->{status}, 200, 'the end of a line may be of Windows, and a value is only a value';
		ok !-e "$env.touched", '... which no shell reads';
		$add->('');
		my ($status, $out) = $a->as_customer('parley/parley token alice');
		like $out, qr/^[\w-]+\.[\w-]+\.[\w-]+\n\z/, 'under another name it is parleyctl';
		chomp $out;
		is Parley::Front::ask($f, 'GET', '/api/conversations', undef, token => $out)->{status}, 200, '... with the same settings';
		($status, $out) = $a->as_customer('/bin/sh parley/parley work --once');
		like $out, qr/^\d+ turns? w(?:as|ere) taken up$/, '... also from cron';
		for my $path ('/parley.env', '/.htaccess', '/x/parley.log', '/.git/config') {
			error_is(Parley::Front::ask($f, 'GET', $path, undef, token => undef), 404, 'not_found', "$path is nobody's business");
		}
		error_is(Parley::Front::ask($f, 'GET', '/parley.fcgi?--help', undef), 404, 'not_found', 'the starter has no address of its own');
	};
}

# How mod_fcgid treats workers, and what that does to turns.
sub lives_ok {
	my ($a) = @_;
	my $f = { url => $a->url };

	subtest 'a worker killed in the middle' => sub {
		my $c = Parley::Front::begin($f, 'POST', '/api/chat', { message => 'script:killed' }, user => 'kim');
		my $id;
		wait_for { $id = $pg->one(q{SELECT conversation_id FROM parley.tool_calls WHERE user_id = 'kim' AND result IS NOT NULL}) } 20;
		kill 'KILL', $a->workers;
		error_is($c->response, 500, 'internal_error', 'its client is told');
		wait_for { !$a->workers } 10;
		is health($a)->{status}, 200, 'the next request is somebody else\'s';
		wait_for { $pg->one('SELECT state FROM parley.turns WHERE conversation_id = ?', $id) eq 'done' } 15;
		is $pg->one('SELECT state FROM parley.turns WHERE conversation_id = ?', $id), 'done', '... and its worker finishes the turn';
		is $pg->one(q{SELECT count(*) FROM tasks.tasks WHERE user_id = 'kim'}), 1, '... each thing once';
	};

	subtest 'a long turn' => sub {
		my $env = settings_of($a);
		$a->settings(PARLEY_CLIENT_MAX_WAIT => '1 s');
		ended($a);
		my $r = Parley::Front::ask($f, 'POST', '/api/chat', { message => 'script:minute' }, user => 'lea');
		is "$r->{status} $r->{json}{status}", '202 running', 'is told to wait';
		is Parley::Front::ask($f, 'GET', $r->{headers}{location}, undef, user => 'lea')->{json}{response}, 'Long, longer, there.',
		    '... where Location says';
		$a->settings;
		ended($a);
	};

	subtest 'Apache is restarted' => sub {
		my $c = Parley::Front::begin($f, 'POST', '/api/chat', { message => 'script:minute' }, user => 'rob');
		wait_for { $pg->one(q{SELECT count(*) FROM parley.messages WHERE user_id = 'rob'}) } 20;
		my $attempts = q{SELECT attempts FROM parley.turns WHERE user_id = 'rob'};
		my $before = $pg->one($attempts);
		sleep 1.2;
		$a->stop;
		cmp_ok $c->response->{status}, '>=', 500, 'a client is told, or cut off';
		is scalar(wait_for { !$a->workers } 10), 1, 'no worker is left';
		is $pg->one($attempts), $before, 'its turn is given back, which is no failed attempt';
		is $pg->one(q{SELECT lease_until FROM parley.live WHERE user_id = 'rob'}), '-infinity', '... for whoever comes first';
		ok $a->start, 'it is back';
		health($a);
		wait_for { $pg->one(q{SELECT state FROM parley.turns WHERE user_id = 'rob'}) eq 'done' } 20;
		is $pg->one(q{SELECT content FROM parley.messages WHERE user_id = 'rob' AND role = 'assistant'}), 'Long, longer, there.', 'the turn is not lost';
	};
}

# The database of a host: one role, which is nothing special.
sub one_role_ok {
	my ($a) = @_;

	subtest 'one role for all' => sub {
		$pg->do('CREATE ROLE customer LOGIN', 'postgres');
		$pg->do('CREATE DATABASE customers', 'postgres');
		$pg->do('GRANT CREATE ON DATABASE customers TO customer', 'postgres');
		$a->settings(PARLEY_DATABASE_URL => $pg->url('customer', 'customers'));
		my ($status, $out) = $a->as_customer('parley/parley migrate --single-role');
		is $status, 0, 'the schema is made' or diag $out;
		($status, $out) = $a->as_customer('parley/parley check');
		like $out, qr/^ok.*model/m, 'check' or diag $out;
		ended($a);
		my $r = Parley::Front::chat({ url => $a->url }, 'carla', 'add task: Call mum');
		is $r->{json}{tool_calls}[0]{tool_name}, 'add_task', 'a turn with a tool' or diag $r->{body};
		is Parley::Front::ask({ url => $a->url }, 'GET', '/api/conversations', undef, user => 'other')->{json}{conversations}[0], undef,
		    'others see nothing of it';
		($status, $out) = $a->as_customer('parley/parley work --once');
		is "$status $out", "0 0 turns were taken up\n", 'cron';
		$a->settings;
		ended($a);
	};
}

# A person before the page, where streams are held back until their end.
sub page_ok {
	my ($a) = @_;
	my $why = Parley::Browser::missing();

	subtest 'the page' => sub {
		plan skip_all => $why if $why;
		my $b = Parley::Browser->new;
		for my $word ('told', 'not told') {
			my $user = "page-$word" =~ tr/ /-/r;
			$a->page($word eq 'told' ? { streams => JSON::XS::false } : {});
			my $page = signed_in($a, $b, $user);
			for my $text ('add task: Buy milk', 'script:minute', 'My name is Ada', 'What is my name?') {
				say_to($page, $text);
				settled($page, 30);
			}
			is_rows($a, $user, $page, "$word to do without streams: a conversation");
			like +($page->texts('.prose'))[-1], qr/Ada/, '... with its history';
			say_to($page, 'script:held');
			# The message is stored, which is what stopping takes.
			$page->wait('document.querySelector(".turn:last-child").dataset.state === "running"', 20);
			$page->click('.stop');
			settled($page, 30);
			like $page->text('.turn:last-child .turn-foot'), qr/Stopped\./, '... and Stop';
			is_quiet($page, $word);
		}
	};
}

done_testing;
