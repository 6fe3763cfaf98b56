# The model client against every row of what servers really send: t/wire/*.script are
# the servers, t/wire/expect.json says what must come of each.  The client is driven by
# t/drive/model, without worker and database; all asks run at once in one process.

use strict;
use warnings;

use File::Basename qw(dirname);
use IPC::Open2 qw(open2);
use JSON::XS ();
use Test::More;
use Time::HiRes ();

use lib dirname(__FILE__) . '/lib';
use Parley::Model;
use Parley::Wire;

my $json = JSON::XS->new->canonical->utf8;
my $driver = -x './t/drive/model' ? './t/drive/model' : dirname(__FILE__) . '/drive/model';
plan skip_all => 't/drive/model is not built' unless -x $driver;

# Runs asks ({ name, message, … }) at once; their outcomes by name, and the driver's log.
sub drive {
	my ($model, @asks) = @_;
	my $log = ($ENV{TMPDIR} // '/tmp') . "/parley-drive-$$.log";
	my $pid = open2(my $out, my $in, 'sh', '-c', 'exec "$0" "$1" 2>"$2"', $driver, $model->url, $log);

	print $in $json->encode($_), "\n" for @asks;
	close $in;
	my %got = map { my $o = $json->decode($_); ($o->{name} => $o) } <$out>;
	waitpid $pid, 0;
	is $?, 0, 'the driver ends well' or do { system 'tail', '-n', '40', $log };
	open my $f, '<', $log or die "$log: $!";
	my $text = join '', <$f>;
	unlink $log;
	return (\%got, $text);
}

my %conf = (%{ Parley::Wire->conf }, deadline => 20000);
my $model = Parley::Model->new(scripts => Parley::Wire->dir);

# -- every script --

my @cases = Parley::Wire->cases;
my ($got, $log) = drive($model, map { {
	name => $_->{name}, message => "script:$_->{name} please", history => $_->{history} // 0,
	conf => { %conf, %{ $_->{conf} // {} } },
} } @cases);
my %requests;
push @{ $requests{ $_->{script} } }, $_ for grep { defined $_->{script} } $model->requests;

for my $c (@cases) {
	my $o = $got->{ $c->{name} };
	subtest $c->{name} => sub {
		ok $o, 'an outcome' or return;
		Parley::Wire->check($c, $o, $requests{ $c->{name} } // []);
		is $o->{given}, $o->{text}, 'the deltas are the text';
		is $o->{retry_after}, $c->{retry_after}, 'Retry-After' if $c->{retry_after};
		cmp_ok $o->{hold_ms}, $c->{hold} ? '>' : '==', $c->{hold} ? 1000 : -1, 'a hold for all workers, or none';
		cmp_ok $o->{hold_ms}, '<=', 300_000, '... and never long before somebody looks again';
		is_deeply [@$o{qw(input_tokens output_tokens)}], $c->{usage}, 'usage' if $c->{usage};
		ok !!$o->{estimated} == !!$c->{estimated}, 'estimated or not' if $c->{usage} || $c->{estimated};
		ok !!$o->{refusal} == !!$c->{refusal}, 'a refusal or not' unless $c->{error_code};
		cmp_ok $o->{total_us}, '<', 1_500_000, 'it does not wait' if $c->{quick};
	};
}

# -- what a request is made of --

my ($sent) = @{ $requests{'14a-usage'} };
is $sent->{headers}{authorization}, 'Bearer a-secret-key', 'the key';
is $sent->{headers}{accept}, 'text/event-stream', 'Accept';
is $sent->{headers}{'x-title'}, 'drive', 'an extra header';
is $sent->{headers}{'http-referer'}, 'https://example.org/', 'and another';
is_deeply [sort keys %{ $sent->{body} }], [qw(messages model stream stream_options tools)], 'nothing in the body that nobody asked for';
ok $sent->{body}{stream}, 'always a stream';
is scalar @{ $sent->{body}{tools} }, 2, 'the tools';
like $sent->{body}{messages}[0]{content}, qr/^Be brief\.\n\n.*Friday, 2026-11-20 11:00 \(Europe\/Berlin\)/s, 'instructions and the time';

# -- what must never be in a log --

unlike $log, qr/secret|sk-abc|please|Buy milk|Provider disconnected/, 'no key, no text, no provider body in the log';
like $log, qr/"upstream_error":"[^"]*invalid_api_key"/, 'the words of the error are there';
like $log, qr/"reason":"tools_refused"/, 'a refusal of tools is named';

# -- fallbacks, options, and servers that are not there --

$model->clear;
my $closed = Parley::Wire::closed_port();
($got) = drive($model,
	(map { { name => "fb-$_", message => 'Hi', model => "script:$_", fallback => 'script:60-answers', conf => \%conf } }
		qw(32f-long-wait 32h-client-error 32g-no-more-tries 40-tools-refused 41-first-byte-late 23b-content-null-twice 42-silence 20b-overflow)),
	{ name => 'nobody', message => 'Hi', base_url => "http://127.0.0.1:$closed/v1", conf => \%conf },
	{ name => 'nobody-fb', message => 'Hi', base_url => "http://127.0.0.1:$closed/v1", fallback => 'script:60-answers', conf => \%conf },
	{ name => 'late', message => 'Hi', model => 'script:41-first-byte-late', conf => { %conf, deadline => 700 } },
	{ name => 'options', message => 'Hi', model => 'script:14b-no-usage', temperature => '0.5', extra_body => '{"stream_options":null,"top_k":40,"model":"x"}',
	  conf => { %conf, max_tokens => 77 } });

for my $name (qw(32f-long-wait 32h-client-error 32g-no-more-tries 40-tools-refused 41-first-byte-late 23b-content-null-twice)) {
	is $got->{"fb-$name"}{text}, 'The fallback says so.', "$name: the fallback answers";
}
is $got->{'fb-32g-no-more-tries'}{requests}, 4, 'after all tries of the first';
is $got->{'fb-41-first-byte-late'}{requests}, 2, 'a timeout is not tried twice on the same model';
is $got->{'fb-42-silence'}{error_code}, 'model_timeout', 'after the first delta there is no fallback';
is $got->{'fb-42-silence'}{text}, 'All', 'and the text stays';
is $got->{'fb-20b-overflow'}{error_code}, 'context_too_long', 'an overflow is no case for a fallback';
is $got->{nobody}{error_code}, 'model_unavailable', 'nobody listens';
is $got->{nobody}{requests}, 3, 'it was tried again';
is $got->{'nobody-fb'}{text}, 'The fallback says so.', 'nobody listens: the fallback answers';
is $got->{late}{error_code}, 'turn_timeout', "the turn's deadline is not the model's fault";
my ($o) = grep { ($_->{script} // '') eq '14b-no-usage' } $model->requests;
is $o->{body}{temperature}, 0.5, 'temperature';
is $o->{body}{max_tokens}, 77, 'max_tokens';
is $o->{body}{top_k}, 40, 'a member of extra_body';
ok !exists $o->{body}{stream_options}, 'null leaves ours out';
is $o->{body}{model}, 'script:14b-no-usage', 'but not the model';

done_testing;
