# The gate from outside: every algorithm, and the issuer's keys as they change, vanish, and cannot be had.
use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep time);

use FindBin;
use lib "$FindBin::Bin/lib";

BEGIN {
	eval { require Crypt::JWT; 1 } or plan skip_all => 'Crypt::JWT is missing (Debian: libcrypt-jwt-perl)';
}
use Parley::Issuer;
use Parley::Test;

my $issuer = Parley::Issuer->new;
my %kid = map { ("key-$_" => $_) } qw(RS256 RS384 RS512 ES256 ES384 ES512 EdDSA);
$issuer->add($_, $kid{$_}) for sort keys %kid;

my $MIN = 1;		# seconds: auth.jwks_min_interval of this test
my $t = Parley::Test->new(conf => {
	'auth.jwks_url' => $issuer->url,
	'auth.jwks_ttl' => '3s',
	'auth.jwks_stale' => '9s',
	'auth.jwks_min_interval' => "${MIN}s",
});

sub status { my ($token, $on) = @_; return ($on // $t)->get('/api/conversations', token => $token)->{status} }

# A refusal has the contract's shape and says nothing of the reason.
sub refused {
	my ($token, $status, $code, $name, $on) = @_;
	my $r = ($on // $t)->get('/api/conversations', token => $token);
	is $r->{status} . ' ' . ($r->{json}{error_code} // ''), "$status $code", $name;
	like $r->{headers}{'www-authenticate'} // '', qr/^Bearer/, '... with WWW-Authenticate' if $status == 401;
	like $r->{headers}{'retry-after'} // '', qr/^[0-9]+$/, '... with Retry-After' if $status == 503;
	return $r;
}

subtest 'a shared secret' => sub {
	for my $alg (qw(HS256 HS384 HS512)) {
		my $claims = { sub => 'alice', exp => time + 60 };
		$claims->{exp} = int $claims->{exp};
		is status(Parley::Test::jwt({ alg => $alg }, $claims, $Parley::Test::SECRET)), 200, $alg;
	}
	refused(undef, 401, 'missing_token', 'no token');
	refused('x', 401, 'invalid_token', 'no JWT');
	refused($t->token('alice', exp => time - 3600), 401, 'token_expired', 'an expired one');
	my $a = refused(Parley::Test::jwt({ alg => 'none' }, { sub => 'alice', exp => int(time + 60) }, ''), 401, 'invalid_token', 'alg none');
	my $b = refused(Parley::Test::jwt({ alg => 'HS256' }, { sub => 'alice', exp => int(time + 60) }, 'other'), 401, 'invalid_token', 'another secret');
	is $a->{json}{message}, $b->{json}{message}, 'the client hears one sentence for both';
	unlike $t->log_text, qr/eyJ/, 'no token in the log';
};

subtest 'every algorithm, one question' => sub {
	my @many = map { $t->begin('GET', '/api/conversations', undef, token => $issuer->token('key-EdDSA')) } 1 .. 24;
	is_deeply [grep { $_ != 200 } map { $_->response->{status} } @many], [], 'the first requests of all workers wait for the keys';
	is $issuer->hits, 1, 'and the issuer was asked once for all of them';
	for my $kid (sort keys %kid) {
		is status($issuer->token($kid)), 200, $kid{$kid};
	}
	$issuer->hide('stranger', 'EdDSA');
	my ($h, $p, $s) = split /\./, $issuer->token('stranger');
	my $forged = Crypt::JWT::encode_jwt(payload => { sub => 'alice', exp => int(time + 60) }, alg => 'EdDSA',
		key => $issuer->{keys}{stranger}{key}, extra_headers => { kid => 'key-EdDSA' });
	refused($forged, 401, 'invalid_token', 'a known kid, another key');
	refused(Crypt::JWT::encode_jwt(payload => { sub => 'alice', exp => int(time + 60) }, alg => 'HS256',
		key => $issuer->{keys}{'key-RS256'}{key}->export_key_pem('public_x509'), extra_headers => { kid => 'key-RS256' }),
	    401, 'invalid_token', 'HS256 made with the public key');
	is $t->pg->one(q{SELECT count(*) FROM parley.facts WHERE key LIKE 'jwks:%'}), 1, 'the set is a row that all workers share';
};

subtest 'a new key' => sub {
	sleep $MIN + 0.2;
	$issuer->add('late', 'EdDSA');
	my $before = $issuer->hits;
	my @many = map { $t->begin('GET', '/api/conversations', undef, token => $issuer->token('late')) } 1 .. 12;
	is_deeply [grep { $_ != 200 } map { $_->response->{status} } @many], [], 'its first tokens are taken';
	cmp_ok $issuer->hits - $before, '<=', 1, 'for one question';
};

subtest 'a key that has gone' => sub {
	my $old = $issuer->token('key-RS384');
	$issuer->remove('key-RS384');
	my $until = time + 8;
	my $status;
	sleep 0.1 while ($status = status($old)) == 200 && time < $until;
	is $status, 401, 'dies with the expiry';
	is status($issuer->token('key-RS256')), 200, 'the others live on';
};

subtest 'a storm of unknown kids' => sub {
	my ($before, $began, $wrong) = ($issuer->hits, time, 0);
	for my $i (1 .. 8) {
		my @many = map {
			$issuer->hide("storm-$i-$_", 'EdDSA');
			$t->begin('GET', '/api/conversations', undef, token => $issuer->token("storm-$i-$_"));
		} 1 .. 25;
		push @many, $t->begin('GET', '/api/conversations', undef, token => $issuer->token('key-ES256'));
		my $good = pop(@many)->response->{status};
		$wrong++ if $good != 200;
		$wrong += grep { $_ != 401 } map { $_->response->{status} } @many;
	}
	is $wrong, 0, '200 are refused, and a good token passes between them';
	cmp_ok $issuer->hits - $before, '<=', (time - $began) / $MIN + 2, 'the issuer is asked at most once in the interval';
};

subtest 'the issuer is down' => sub {
	$issuer->down(500);
	my $until = time + 6;
	my $wrong = 0;
	while (time < $until) {
		$wrong++ if status($issuer->token('key-ES384')) != 200;
		sleep 0.2;
	}
	is $wrong, 0, 'the last good set is used past its expiry';
	$issuer->hide('unheard', 'EdDSA');
	refused($issuer->token('unheard'), 503, 'overloaded', 'nobody can tell about another kid');
	$until = time + 12;
	my $status;
	sleep 0.2 while ($status = status($issuer->token('key-ES384'))) == 200 && time < $until;
	is $status, 503, 'but not for ever';
	refused($issuer->token('key-ES384'), 503, 'overloaded', 'then nobody gets in');
	is status($t->token('alice')), 200, 'but by the shared secret';

	$issuer->up;
	$until = time + 8;
	sleep 0.1 while ($status = status($issuer->token('key-ES384'))) != 200 && time < $until;
	is $status, 200, 'and it is noticed when it is back';
};

subtest 'the database is gone' => sub {
	my $alone = Parley::Test->new(pg => $t->pg, model => $t->model, workers => 1, conf => {
		'auth.jwks_url' => $issuer->url('/alone'), 'auth.jwks_min_interval' => '1s', 'database.wait' => '500ms',
	});
	$t->pg->stop;
	my $r = $alone->get('/api/conversations', token => $issuer->token('key-ES256'));
	is $r->{status} . ' ' . ($r->{json}{error_code} // ''), '503 database_unavailable', 'the keys are had without it';
	is $issuer->hits('/alone'), 1, 'by asking directly';
	refused($issuer->token('key-RS384'), 401, 'invalid_token', 'a bad token is still a bad token', $alone);
	$t->pg->start;
};

subtest 'no set was ever had' => sub {
	$issuer->down('slow');
	my $late = Parley::Test->new(pg => $t->pg, model => $t->model, workers => 1, conf => {
		'auth.jwks_url' => $issuer->url('/late'), 'auth.jwks_min_interval' => '1s',
	});
	my $began = time;
	refused($issuer->token('key-ES256'), 503, 'overloaded', 'an issuer that says nothing', $late);
	cmp_ok time - $began, '<', 12, '... is not waited for longer than some seconds';
	$issuer->up;
	my $until = time + 8;
	my $status;
	sleep 0.2 while ($status = status($issuer->token('key-ES256'), $late)) != 200 && time < $until;
	is $status, 200, 'an answer is enough';
};

done_testing;
