# The load generator, against scripted answers of the demo model.
use strict;
use warnings;
use lib 't/lib';
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use JSON::XS;
use Parley::Model;
use Test::More;

my ($load) = grep { -x $_ } './t/bench/load', dirname(__FILE__) . '/bench/load';
plan skip_all => 't/bench/load is not built (make check builds it)' unless $load;

my $id = '0c9f0000-0000-4000-8000-000000000001';
my $model = Parley::Model->new(scripts => {
	json   => qq(header Content-Type: application/json\nraw {"status":"success","conversation_id":"$id","response":"ok"}\n),
	halves => qq(header Content-Type: application/json\nraw {"status":"success","conversa\nwait 20\nraw tion_id":"$id"}\n),
	# Half a second: a busy machine has opened all of them before the first one ends.
	stream => qq(raw event: turn\\ndata: {"conversation_id":"$id"}\\n\\n\nwait 500\nraw event: del\nwait 10\n) .
	    qq(raw ta\\ndata: {"text":"ok"}\\n\\n\nraw event: done\\ndata: {"status":"success"}\\n\\n\n),
	failed => qq(raw event: turn\\ndata: {}\\n\\nevent: error\\ndata: {"error_code":"model_error"}\\n\\n\n),
	busy   => qq(status 409\nheader Content-Type: application/json\nraw {"error_code":"conversation_busy"}\n),
	cut    => "data {}\ncut\n",
	hang   => "hang\n",
	none   => "garbage HELLO\\r\\n\n",
});
my $dir = tempdir(CLEANUP => 1);

sub write_file {
	my ($name, $text) = @_;
	open my $f, '>', "$dir/$name" or die $!;
	print $f $text;
	close $f;
	return "$dir/$name";
}

sub load {
	my ($script, @options) = @_;
	my $body = encode_json({ model => "script:$script", messages => [{ role => 'user', content => '{n}' }] });

	$model->clear;
	open my $out, '-|', $load, '--url', $model->url . '/chat/completions', '--body', $body, @options or die $!;
	my $text = do { local $/; <$out> };
	close $out;
	return decode_json($text);
}

my $tokens = write_file('tokens', "one\ntwo\nthree\n");
my $r = load('json', '--tokens', $tokens, qw(--users 2 --concurrency 4 --requests 20 --conversation same));
is $r->{count}, 20, 'all requests';
is $r->{ok}, 20, '... good';
is_deeply $r->{status}, { 200 => 20 }, '... by status';
ok $r->{latency_ms}{p50} > 0 && $r->{latency_ms}{p50} <= $r->{latency_ms}{max}, 'latencies';
my @q = $model->requests;
is join(' ', sort keys %{ { map { $_->{headers}{authorization} => 1 } @q } }), 'Bearer one Bearer two', 'two users';
is scalar(grep { !$_->{body}{conversation_id} } @q), 4, 'each client begins one conversation';
is scalar(grep { ($_->{body}{conversation_id} // '') eq $id } @q), 16, '... and goes on in it';
is join(' ', sort { $a <=> $b } map { $_->{body}{messages}[0]{content} } @q), join(' ', 0 .. 19), '{n} counts';

$r = load('halves', qw(--concurrency 1 --requests 2 --conversation same --keepalive));
is scalar(grep { $_->{body}{conversation_id} } $model->requests), 1, 'an id that came in two chunks';

$r = load('stream', qw(--concurrency 5 --requests 5 --stream --burst --hold-signal), "$dir/hold");
is $r->{ok}, 5, 'streams';
ok $r->{first_byte_ms}{max} < $r->{latency_ms}{p50}, '... begin before they end';
ok $r->{first_delta_ms}{p50} > 400, '... and the first text is timed, though its event came in halves';
is $r->{peak}, 5, 'all at once';
ok defined $r->{all_open_ms}, '... from a known moment on';
ok -s "$dir/hold", '... and the file says so';

is_deeply load('failed', qw(--requests 2 --stream))->{codes}, { model_error => 2 }, 'an error event';
$r = load('busy', qw(--requests 3));
is_deeply [$r->{ok}, $r->{status}, $r->{codes}], [0, { 409 => 3 }, { conversation_busy => 3 }], 'a refusal';
is load('cut', qw(--requests 2))->{errors}{closed}, 2, 'cut off';
is load('hang', qw(--requests 1 --timeout 1))->{errors}{timeout}, 1, 'silence';
is load('none', qw(--requests 1))->{errors}{protocol}, 1, 'no HTTP';
$r = load('json', qw(--concurrency 2 --seconds 1 --keepalive));
ok $r->{count} > 10 && $r->{seconds} < 3, 'bounded by time';
isnt system("$load --url http://192.0.2.1:80/ --requests 1 2>/dev/null"), 0, 'no other machine is asked';
$model->stop;
is decode_json(scalar `$load --url @{[$model->url]} --requests 2`)->{errors}{connect}, 2, 'nobody there';

done_testing;
