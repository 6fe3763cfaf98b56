# What model servers really send, through real workers: every row of t/wire, fallbacks, TLS and HTTP/2.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::INET;
use Test::More;

use Parley::Contract;
use Parley::Process;
use Parley::Test;
use Parley::Tls;
use Parley::Wire;

binmode Test::More->builder->$_, ':utf8' for qw(output failure_output todo_output);

my $model = Parley::Model->new(scripts => Parley::Wire->dir);
my $pg = Parley::Postgres->new;
my $conf = Parley::Wire->conf;

sub pool {
	my (%more) = @_;
	my $key = delete $more{key};
	return Parley::Test->new(pg => $pg, model => $model, $key ? (env => { PARLEY_MODEL_KEY => $key }) : (),
	    conf => { (map { ("model.$_" => $conf->{$_} =~ s/$/ ms/r) } grep { !/retries/ } keys %$conf), 'model.retries' => $conf->{retries}, %more });
}

# What came of a turn, in the words of Parley::Wire.
sub outcome {
	my ($t, $user, $r) = @_;
	my $b = $r->{json} // {};
	my ($id, $turn) = @$b{qw(conversation_id turn)};
	my @m = grep { $_->{turn} == ($turn // 0) } @{($t->get("/api/conversations/" . ($id // 'none') . '?limit=100', user => $user)->{json} // {})->{messages} // []};
	return {
		error_code => $b->{error_code},
		text => $r->{status} == 200 ? $b->{response} : join('', map { $_->{content} } grep { $_->{interrupted} } @m),
		tool_calls => [map { @{$_->{tool_calls}} } @m],
	};
}

sub run_cases {
	my ($t, @cases) = @_;
	my @begun;

	for my $c (@cases) {
		my $user = "of-$c->{name}";
		my $id;
		for (1 .. $c->{history} // 0) {
			$id = $t->chat($user, "hello $_", $id ? (conversation_id => $id) : ())->{json}{conversation_id};
		}
		push @begun, [$c, $user, $t->begin_chat($user, "script:$c->{name} please", $id ? (conversation_id => $id) : ())];
	}
	my %got = map { my ($c, $user, $client) = @$_; ($c->{name} => [$user, $client->response]) } @begun;
	my %requests;
	push @{$requests{$_->{script}}}, $_ for grep { defined $_->{script} } $model->requests;
	for my $c (@cases) {
		subtest $c->{name} => sub {
			my ($user, $r) = @{$got{$c->{name}}};
			Parley::Wire->check($c, outcome($t, $user, $r), $requests{$c->{name}} // []);
			is $r->{headers}{'retry-after'}, $c->{retry_after}, 'Retry-After' if $c->{retry_after};
			is_deeply [@{$r->{json}{usage}}{qw(input_tokens output_tokens)}], $c->{usage}, 'usage' if $c->{usage};
		};
	}
}

# A server that asks for a minute's pause is left alone by all: that comes last.
my @cases = Parley::Wire->cases;
my @plain = grep { !$_->{conf} && !$_->{hold} } @cases;
my $t = pool();
run_cases($t, splice @plain, 0, 30) while @plain;
my ($large) = grep { $_->{conf} } @cases;
run_cases(pool(map { ("model.$_" => "$large->{conf}{$_} B") } keys %{$large->{conf}}), $large);

subtest 'what is asked of a server' => sub {
	my $t = pool(key => 'a-secret-key', 'model.headers' => 'X-Title: tests', 'model.model' => 'demo');
	$model->clear;
	$t->chat('alice', 'script:14a-usage');
	my ($r) = $model->requests;
	is $r->{headers}{authorization}, 'Bearer a-secret-key', 'the key';
	is $r->{headers}{'x-title'}, 'tests', 'an extra header';
	is $r->{headers}{accept}, 'text/event-stream', 'a stream';
	is $r->{body}{model}, 'demo', 'the model';
	unlike $t->log_text, qr/a-secret-key/, 'the key is not in the log';
};

subtest 'fallbacks' => sub {
	my $closed = Parley::Wire::closed_port();
	my $t = pool('model.model' => 'script:60-answers', 'model.fallbacks' => 'other', 'model.base_url' => "http://127.0.0.1:$closed/v1",
	    'model.other.base_url' => $model->url, 'model.other.model' => 'script:60-answers');
	my $r = $t->chat('alice', 'Hi');
	is $r->{json}{response}, 'The fallback says so.', 'nobody listens: the next model answers' or diag $r->{body};
	is $pg->one(q{SELECT state FROM parley.turns WHERE user_id = 'alice' ORDER BY started_at DESC LIMIT 1}), 'done', '... and the turn is done';
};

subtest 'a pause that a server asks for' => sub {
	# One at a time: what one asks for, the next would hear of.
	for my $c (grep { $_->{hold} } @cases) {
		$pg->do(q{DELETE FROM parley.facts WHERE key LIKE 'hold:%'});
		run_cases($t, $c);
	}
	my $before = $model->requests;
	my $other = pool();
	my $r = $other->chat('bob', 'hello');
	error_is($r, 503, 'model_unavailable', 'longer than a retry would wait, it binds every worker');
	cmp_ok $r->{headers}{'retry-after'}, '>', 20, '... and the client hears how long';
	is scalar(my @now = $model->requests), scalar @$before, '... who do not ask it';
	$pg->one(q{DELETE FROM parley.facts WHERE key LIKE 'hold:%' RETURNING 1});
	is $other->chat('bob', 'hello')->{status}, 200, 'until it is over';
};

subtest 'TLS and HTTP/2' => sub {
	plan skip_all => Parley::Tls::missing() if Parley::Tls::missing();
	my $dir = Parley::Process::tempdir();
	my $port = Parley::Process::free_port();
	my ($nginx) = grep { -x } map { "$_/nginx" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';

	Parley::Tls::make($dir);
	open my $f, '>', "$dir/nginx.conf" or die "nginx.conf: $!";
	print $f <<"END";
daemon off;
worker_processes 1;
pid $dir/nginx.pid;
events { }
http {
	log_format served '\$connection \$server_protocol \$status';
	access_log $dir/access.log served;
	client_body_temp_path $dir; proxy_temp_path $dir; fastcgi_temp_path $dir; uwsgi_temp_path $dir; scgi_temp_path $dir;
	server {
		listen 127.0.0.1:$port ssl http2;
		ssl_certificate $dir/s.pem;
		ssl_certificate_key $dir/s.key;
		location / { proxy_pass @{[$model->root]}; proxy_buffering off; }
	}
}
END
	close $f or die "nginx.conf: $!";
	my $server = Parley::Process->new(cmd => [$nginx, '-p', "$dir/", '-c', "$dir/nginx.conf", '-e', "$dir/error.log"],
	    dir => $dir, log => "$dir/error.log");
	ok Parley::Process::wait_for(sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) }, 20), 'a server with TLS';

	my %on = ('model.base_url' => "https://127.0.0.1:$port/v1", 'model.model' => 'demo');
	my $t = Parley::Test->new(pg => $pg, model => $model, workers => 1, conf => { %on, 'model.ca_file' => "$dir/ca.pem" });
	my @got = map { $_->response } map { $t->begin_chat("tls-$_", "add task: over TLS $_") } 1 .. 30;
	is_deeply [map { $_->{body} } grep { $_->{status} != 200 || !@{$_->{json}{tool_calls}} } @got], [], '30 turns at once';
	my @events = $t->stream('tls-1', 'show my tasks');
	is $events[-1]{event}, 'done', 'a stream';
	open my $log, '<', "$dir/access.log" or die "access.log: $!";
	my @served = map { [split] } <$log>;
	is_deeply [grep { $_->[1] ne 'HTTP/2.0' } @served], [], 'all over HTTP/2';
	my %connections = map { $_->[0] => 1 } @served;
	cmp_ok scalar(keys %connections), '<=', 2, '... on a connection or two for ' . @served . ' requests';

	my $other = Parley::Test->new(pg => $pg, model => $model, workers => 1,
	    conf => { %on, 'model.ca_file' => "$dir/other.pem", 'model.retries' => 0 });
	error_is($other->chat('alice', 'hello'), 503, 'model_unavailable', 'an unknown authority');
	$server->stop;
	File::Path::remove_tree($dir);
};

done_testing;
