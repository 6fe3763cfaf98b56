# What the log says, and what it must never say.
use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/lib";

use Encode ();
use JSON::XS ();
use Test::More;
use Time::HiRes qw(sleep time);

use Parley::Contract;
use Parley::Pool;
use Parley::Process;
use Parley::Test;
use Parley::Wire;

my $dir = Parley::Process::tempdir();
my $file = "$dir/parley.log";
my $provider = 'Whisper of the provider';
my $model = Parley::Model->new(scripts => {
	refused => "status 400\nheader Content-Type: application/json\nraw {\"error\":{\"message\":\"$provider\",\"code\":\"$provider\"}}\n",
	html => "status 502\nheader Content-Type: text/html\nraw <html>$provider</html>\n",
	tools => join("---\n", call_reply(add_task => { title => 'Whisper of a tool' }, no_such_whisper => {}),
	    text_reply('Whisper ', 'of the model.')),
	badargs => join("---\n", call_reply(add_task => { title => 'Whisper ' x 100 }), text_reply('Too long.')),
	wait => text_reply('Al', 1500, 'most.'),
});
my $t = Parley::Test->new(model => $model, workers => 1, conf => {
	'log.file' => $file, 'model.retries' => 0,
}, env => { PARLEY_MODEL_KEY => 'sk-whisper-key' });
my $pg = $t->pg;

sub slurp { open my $fh, '<:raw', $_[0] or return ''; local $/; return scalar(<$fh>) // '' }
sub lines { map { eval { JSON::XS::decode_json($_) } // { broken => $_ } } split /\n/, slurp($_[0] // $file) }
sub of_request { my ($id) = @_; return grep { ($_->{request_id} // '') eq $id } lines() }

# Sends it under an id of its own; its lines by their event.
my $ids = 0;
sub logged {
	my ($method, $path, $body, %opt) = @_;
	my $id = 'test-' . ++$ids;
	my $r = $t->request($method, $path, $body, %opt, headers => { 'X-Request-Id' => $id, %{$opt{headers} // {}} });
	Parley::Process::wait_for { grep { $_->{event} eq 'request' } of_request($id) } 20;
	my %line;
	push @{$line{$_->{event}}}, $_ for of_request($id);
	return ($r, \%line);
}

sub names { join ' ', sort grep { !/^(?:time|level|pid|event|request_id)$/ } keys %{$_[0]} }

subtest 'a turn' => sub {
	my ($r, $line) = logged('POST', '/api/chat', { message => 'script:tools Whisper of a user' }, user => 'Whisper User');
	is $r->{status}, 200, 'it is answered' or diag $r->{body};
	my ($turn, $request) = ($line->{turn}[0], $line->{request}[0]);
	is names($turn), 'begin_ms conversation_id end_ms first_byte_ms input_tokens model model_ms output_tokens route ' .
	    'state steps tools_ms turn user', 'the fields of its line';
	is names($request), 'auth_ms conversation_id method route status total_ms turn user', 'the fields of the request\'s line';
	is_deeply [@$turn{qw(level state steps turn route model input_tokens output_tokens)}],
	    ['info', 'done', 2, 1, '/api/chat', 'demo', 14, 6], 'values of the turn';
	is_deeply [@$request{qw(level method status turn route)}], ['info', 'POST', 200, 1, '/api/chat'], 'values of the request';
	is $turn->{conversation_id}, $r->{json}{conversation_id}, 'conversation';
	like $turn->{user}, qr/^[0-9a-f]{16}$/, 'the user is a hash';
	cmp_ok $turn->{"${_}_ms"}, '>', 0, "$_ took time" for qw(begin first_byte model tools end);
	cmp_ok $request->{total_ms}, '>=', $turn->{begin_ms} + $turn->{model_ms} + $turn->{tools_ms} + $turn->{end_ms} - 0.1,
	    'all of it took longer than its parts';

	my (undef, $same) = logged('GET', '/api/conversations?q=Whisper%20of%20a%20search', undef, user => 'Whisper User');
	is $same->{request}[0]{user}, $turn->{user}, 'the same user, the same hash';
	is $same->{request}[0]{route}, '/api/conversations', 'the route has no query';
	my (undef, $other) = logged('POST', '/api/Whisper%20User2/chat', { message => 'Hello', stream => JSON::XS::true }, user => 'Whisper User2');
	isnt $other->{request}[0]{user}, $turn->{user}, 'another user, another hash';
	is $other->{request}[0]{route}, '/api/{user}/chat', 'the route names no user';
	(undef, my $read) = logged('GET', "/api/conversations/$r->{json}{conversation_id}/turns/1", undef, user => 'Whisper User');
	is $read->{request}[0]{route}, '/api/conversations/{id}/turns/{n}', 'nor an id';
	is $read->{request}[0]{conversation_id}, $r->{json}{conversation_id}, '... which has a field of its own';
};

subtest 'errors' => sub {
	my ($r, $line) = logged('GET', '/api/conversations', undef, token => 'eyJ.Whisper.token');
	is_deeply [@{$line->{request}[0]}{qw(level status error_code)}], ['info', 401, 'invalid_token'], 'a refusal is no error of ours';
	ok !exists $line->{request}[0]{user}, '... and nobody is known';
	like $line->{request}[0]{at}, qr/^[\w\/.-]+\.c:\d+$/, '... where it was said';
	(undef, $line) = logged('GET', '/api/whisper/of/a/path', undef);
	is_deeply [@{$line->{request}[0]}{qw(status error_code)}], [404, 'not_found'], 'no address';
	ok !exists $line->{request}[0]{route}, '... has no route';
	(undef, $line) = logged('POST', '/api/chat', '{"message":"Whisper in bad JSON"');
	is_deeply [@{$line->{request}[0]}{qw(status error_code)}], [400, 'invalid_json'], 'bad JSON';
	(undef, $line) = logged('POST', '/api/chat', { message => 'Whisper of a bad zone', time_zone => 'Whisper/City', Whisper => 'field' });
	is_deeply [@{$line->{request}[0]}{qw(status error_code)}], [422, 'validation_error'], 'a field that cannot be';
	like $line->{request}[0]{at}, qr/^[\w\/.-]+\.c:\d+$/, '... where it was said';
	logged('POST', '/api/chat', 'x' x 70000);
	logged('PATCH', '/api/conversations/x', { title => 'Whisper of a title' });

	for my $script (qw(refused html)) {
		($r, $line) = logged('POST', '/api/chat', { message => "script:$script" });
		my $turn = $line->{turn}[0];
		is_deeply [@$turn{qw(level state error_code)}], ['warn', 'failed', $r->{json}{error_code}], "$script: the turn";
		is $line->{request}[0]{level}, 'error', '... the request is an error';
		my ($fault) = grep { exists $_->{upstream_status} } map { @$_ } values %$line;
		is $fault->{upstream_status}, { refused => 400, html => 502 }->{$script}, '... and what the model said, as a number';
	}
	logged('POST', '/api/chat', { message => 'script:badargs' });

	# A fault of our own: SQLSTATE for us, nothing for the client.
	$pg->do('ALTER FUNCTION parley.conversation_list RENAME TO conversation_lost');
	($r, $line) = logged('GET', '/api/conversations', undef);
	$pg->do('ALTER FUNCTION parley.conversation_lost RENAME TO conversation_list');
	error_is($r, 500, 'internal_error', 'SQL that fails');
	unlike $r->{body}, qr/function|SELECT|42883|parley\./, '... tells the client nothing';
	my $request = $line->{request}[0];
	like join(' ', map { $_ // '' } @$request{qw(detail sqlstate)}), qr/42883/, '... and the log the SQLSTATE' or diag explain $line;
	like $request->{at}, qr/\.c:\d+$/, '... and the place';
	is $t->get('/api/conversations')->{status}, 200, '... and it goes on';
};

subtest 'a model that cannot be reached' => sub {
	my $alone = Parley::Test->new(pg => $pg, model => 'http://127.0.0.1:' . Parley::Wire::closed_port() . '/v1', workers => 1,
	    conf => { 'model.retries' => 0 });
	my $r = $alone->chat('alice', 'Hello');
	error_is($r, 503, 'model_unavailable', 'the answer');
	my @of = grep { ($_->{request_id} // '') eq $r->{json}{request_id} } $alone->log;
	ok scalar(grep { ($_->{detail} // '') =~ /^curl 7\b/ } @of), 'the log has curl\'s code' or diag explain \@of;
	ok scalar(grep { $_->{event} eq 'request' && $_->{error_code} eq 'model_unavailable' && $_->{at} =~ /\.c:\d+$/ } @of),
	    '... and the place';
};

subtest 'every line' => sub {
	my @bad = grep { exists $_->{broken} } lines();
	is_deeply \@bad, [], 'is one JSON object';
	@bad = grep {
		($_->{time} // '') !~ $TIME || ($_->{level} // '') !~ /^(?:debug|info|warn|error)$/ ||
		    ($_->{pid} // 0) !~ /^[1-9]\d*$/ || ($_->{event} // '') !~ /^\w+$/
	} lines();
	is_deeply \@bad, [], 'has time, level, pid and event';
	unlike $t->log_text, qr/^\{/m, 'is in log.file, not on stderr';
};

subtest 'SIGHUP opens it again' => sub {
	rename $file, "$file.1" or die $!;
	$t->get('/api/health', token => undef);
	ok !-e $file, 'until then the old one is written';
	$t->pool->reload;
	ok +(Parley::Process::wait_for { -s $file } 20), 'then the new one';
	my $old = -s "$file.1";
	my ($r, $line) = logged('POST', '/api/chat', { message => 'Hello' });
	is $r->{status}, 200, 'turns go on';
	ok $line->{turn}, '... into the new file';
	is -s "$file.1", $old, '... alone';

	# A turn that runs meanwhile is not disturbed; a level that is read again counts.
	$model->clear;
	my $c = $t->begin_chat('alice', 'script:wait');
	$model->wait_requests(1);
	$t->pool->write_conf('log.level' => 'error');
	$t->pool->reload;
	sleep 0.3;
	is $c->response->{json}{response}, 'Almost.', 'a turn goes through it';
	my $size = -s $file;
	$t->get('/api/health', token => undef);
	is -s $file, $size, 'log.level: error leaves out the rest';
	$t->pool->write_conf('log.level' => 'info');
	$t->pool->reload;
	ok +(Parley::Process::wait_for { $t->get('/api/health', token => undef); -s $file > $size } 20), '... until it is read again';
	is scalar($t->pids), 1, 'the same worker';
};

subtest 'a crash' => sub {
	plan skip_all => 'sanitizers make their own report' if slurp(Parley::Pool::program('parley.fcgi')) =~ /__[at]san_init/;
	$model->clear;
	my $c = $t->begin_chat('Whisper User', 'script:wait Whisper while it crashes');
	$model->wait_requests(1);
	my ($pid) = $t->pids;
	my $at = length slurp($file);
	kill 'SEGV', $pid;
	error_is($c->response, 500, 'internal_error', 'whoever waits is told');
	ok +(Parley::Process::wait_for { my ($p) = $t->pids; $p && $p != $pid } 10), 'another worker is started';
	$t->ready;
	my $said = substr slurp($file), $at;
	like $said, qr/^\{.*"event":"crash","signal":"11"\}$/m, 'the signal';
	like $said, qr/parley\.fcgi\(loop_run\+0x[0-9a-f]+\)/, 'a backtrace with names';
	is $t->chat('alice', 'Hello')->{status}, 200, 'and it goes on';
};

# At last, all that was written anywhere.
subtest 'nothing private' => sub {
	my $all = join "\n", map { slurp($_) } $file, "$file.1", $t->pool->log_file, $t->nginx->dir . '/nginx.log';
	cmp_ok length $all, '>', 5000, 'there is something to look at';
	my @found = $all =~ /^(.*whisper.*)$/gim;
	is_deeply \@found, [], 'no text of users, models, tools or paths; no name of a user';
	unlike $all, qr/eyJ|Bearer/, 'no token';
	unlike $all, qr/\Q$Parley::Test::SECRET/, 'no secret';
	unlike $all, qr/postgresql:|@\/parley/, 'no connection string';
};

done_testing;
END { local $?; File::Path::remove_tree($dir) if $dir && $$ == $t->{owner_pid} }
