# Apache of one's own before Parley, by mod_proxy_fcgi, with the shipped file.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";

use Test::More;
use Time::HiRes qw(sleep);

use Parley::Apache;
use Parley::Contract;
use Parley::Front;
use Parley::Process;
use Parley::Tls;

my $missing = Parley::Apache::missing(qw(proxy_fcgi proxy_http ssl http2)) || Parley::Tls::missing();
plan skip_all => $missing if $missing;

sub wait_for(&;$) { goto &Parley::Process::wait_for }

# A worker that dies in the middle: the client is told, and nothing is lost.
sub lost_ok {
	my ($f, $p) = @_;
	my $c = Parley::Front::begin($f, 'POST', '/api/chat', { message => 'script:slow' }, user => 'lost');

	wait_for { $p->pg->one(q{SELECT count(*) FROM parley.turns WHERE user_id = 'lost'}) } 20;
	sleep 0.3;
	kill 'KILL', $p->pool->pids;
	my $r = $c->response;
	error_is($r, 503, 'overloaded', 'a worker lost in the middle');
	like $r->{json}{message}, qr/may have been stored/, '... says what may be';
	my $id = $p->pg->one(q{SELECT conversation_id FROM parley.turns WHERE user_id = 'lost'});
	my $answer = wait_for { Parley::Front::ask($f, 'GET', "/api/conversations/$id/turns/1?wait=5", undef, user => 'lost')->{json}{response} } 40;
	is $answer, 'Slowly, but surely.', '... and it is, and is answered';
}

my $p = Parley::Front::parts();
my $tls = Parley::Process::tempdir();
Parley::Tls::make($tls);
my $neighbour = Parley::Front::neighbour();
my %suite = (test => $p, ca => "$tls/ca.pem", streams => 1, page => 1, hsts => 1, own => 'early',
    restart => sub { $p->pool->restart }, stop => sub { $p->pool->stop }, start => sub { $p->pool->start });
my $a = Parley::Apache->own($p, tls => $tls);
Parley::Front::suite(name => 'HTTP/2', url => $a->url, http2 => 1, %suite, own => 'early reset');
undef $a;
$a = Parley::Apache->own($p, tls => $tls, settings => sub {
	s{#(SetEnvIf Request_URI "\^/api/\()}{$1} or die 'no errors of the neighbour';
	s{#(ProxyPass "/api/" )"http://127\.0\.0\.1:3000/}{$1 . '"' . $neighbour->url . '/'}e or die 'no neighbour';
});
Parley::Front::suite(name => 'HTTP/1.1, beside another application', url => $a->url, http2 => 0, neighbour => 1, %suite);
my $r = Parley::Front::ask({ url => $a->url, ca => "$tls/ca.pem", http2 => 0 }, 'GET', '/api/auth/missing', undef);
is $r->{headers}{'content-type'}, 'text/plain', 'its errors are of its type';
lost_ok({ url => $a->url, ca => "$tls/ca.pem", http2 => 1 }, $p);
done_testing;
