# The gate against the library jose: the same verdict on every token, but where we want more, and then it can be shown
# of the token itself.  PARLEY_DIFFERENTIAL: how many tokens.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";

use File::Path ();
use JSON::XS ();
use MIME::Base64 ();
use Test::More;

use Parley::Node;
use Parley::Process;
use Parley::Texts;

my ($driver) = grep { -x } 't/drive/token', "$FindBin::Bin/drive/token";
plan skip_all => 't/drive/token has not been built' unless $driver;
my ($door) = grep { -x } 't/drive/json', "$FindBin::Bin/drive/json";
plan skip_all => 't/drive/json has not been built' unless $door;
my $missing = Parley::Node::missing();
plan skip_all => $missing if $missing;

my $count = $ENV{PARLEY_DIFFERENTIAL} // 4000;
my $secret = 'a secret of the tests, 32 bytes or more';
my $dir = Parley::Process::tempdir();
my $json = JSON::XS->new->utf8;

my ($status, $out, $err) = Parley::Node::run('t/node/tokens.mjs', $dir, $secret, $count);
is $status, 0, 'jose has judged' or diag $err;
my @all = map { $json->decode($_) } split /\n/, $out;
is scalar @all, $count, "... $count tokens";

open my $conf, '>', "$dir/parley.conf" or die "$dir/parley.conf: $!";
print $conf "[auth]\njwks_file = jwks.json\nissuer = https://issuer.example\naudience = chat\nleeway = 60 s\n",
    "algorithms = HS256 HS384 HS512 RS256 RS384 RS512 ES256 ES384 ES512 EdDSA\n[log]\nfile = $dir/log\n";
close $conf;
local $ENV{PARLEY_AUTH_SECRET} = $secret;
my @tokens = map { my $t = $_->{token}; utf8::encode($t); $t } @all;
my @ours = Parley::Texts::judged($driver, ["$dir/parley.conf"], \@tokens);

# -- why we may want less than the other takes --

sub raw { MIME::Base64::decode_base64url($_[0] // '') }

# Header and payload through our own door for JSON, whose verdict t/differential-json.t has looked at.
my @segments = map { [split /\./, $_, -1] } @tokens;
my @json = Parley::Texts::judged($door, [], [map { (raw($_->[0]), raw($_->[1])) } @segments]);

sub date_is_strange {
	my ($p, $name) = @_;
	return 0 unless exists $p->{$name};
	my $v = $json->allow_nonref->encode($p->{$name});
	return $v !~ /^-?[\d.]+(?:[eE][-+]?\d+)?$/ || $v < 0 || $v > 253402300799;
}

# (token, header, payload)
my @reasons = (
	'it is longer than 8192 bytes' => sub { length $_[0] > 8192 },
	'a segment is not base64url as it is written in one way alone (RFC 7515, section 2; RFC 4648, section 3.5)' => sub {
		grep { !/^[A-Za-z0-9_-]+\z/ || MIME::Base64::encode_base64url(raw($_)) ne $_ } split /\./, $_[0], -1;
	},
	'header or payload is no object of strict JSON: a name twice, a NUL, half a character, a number without measure, 32 deep' =>
	    sub { !defined $_[1] || !defined $_[2] },
	'crit or b64, of which we know none' => sub { exists $_[1]{crit} || exists $_[1]{b64} },
	'typ says that it is no token for us (RFC 8725, section 3.11)' => sub {
		exists $_[1]{typ} && (!defined $_[1]{typ} || ref $_[1]{typ} || $json->encode([$_[1]{typ}]) !~ m{^\["(?:application/)?(?:at\+)?jwt"\]$}i);
	},
	'kid is no text' => sub { exists $_[1]{kid} && $json->encode([$_[1]{kid}]) !~ /^\["/ },
	'a date is none: before 1970, after 9999, or of another type' => sub { grep { date_is_strange($_[2], $_) } qw(exp nbf iat) },
	'it was issued in the future' => sub { exists $_[2]{iat} && $_[2]{iat} > time() + 60 },
	'the user is no text of 1 to 255 bytes without control characters, and no whole number' => sub {
		my $sub = $json->encode([$_[2]{sub}]);
		return 0 if $sub =~ /^\[-?\d{1,18}\]$/;
		return 1 unless $sub =~ /^\["/;
		utf8::encode(my $bytes = $_[2]{sub});
		return $_[2]{sub} =~ /[\x00-\x1f\x7f-\x9f]/ || length $bytes < 1 || length $bytes > 255;
	},
	'aud is a list of more than texts' => sub { ref $_[2]{aud} eq 'ARRAY' && $json->encode($_[2]{aud}) !~ /^\[(?:"(?:[^"\\]|\\.)*",?)*\]$/ },
);

sub reason {
	my ($i) = @_;
	my ($header, $payload) = map { /^\+(\{.*)/ ? $json->decode($1) : undef } @json[2 * $i, 2 * $i + 1];
	for (my $j = 0; $j < @reasons; $j += 2) {
		return $reasons[$j] if $reasons[$j + 1]->($tokens[$i], $header, $payload);
	}
	return undef;
}

# -- the comparison --

my (%seen, %taken, @wrong);
for my $i (0 .. $#all) {
	my ($mine) = $ours[$i] =~ /^(\w+)/;
	my ($theirs, $what) = @{$all[$i]}{qw(verdict what)};
	my $why = $theirs eq 'invalid' ? undef : reason($i);
	$mine = { ok => 'ok', token_expired => 'expired' }->{$mine} // 'invalid';
	if ($theirs ne 'invalid' && defined $why) {
		$seen{$why}++;
		push @wrong, "ours says $mine, though $why: $what" if $mine ne 'invalid';
	} elsif ($mine ne $theirs) {
		# An expired one may be wrong in other ways, too: whoever looks at the time last does not say it.
		next if $theirs eq 'expired' && $mine eq 'invalid' && $ours[$i] =~ /nbf|aud|iss|claim/;
		push @wrong, "jose says $theirs, ours $ours[$i]: $what";
	} else {
		$taken{$mine}++;
	}
}
ok !@wrong, 'the same verdicts' or diag map { "$_\n" } @wrong[0 .. ($#wrong < 9 ? $#wrong : 9)];
cmp_ok $taken{$_} // 0, '>', $count / ($_ eq 'expired' ? 100 : 20), "... $taken{$_} times $_" for qw(ok expired invalid);
for (my $j = 0; $j < @reasons; $j += 2) {
	ok $seen{$reasons[$j]}, "... $seen{$reasons[$j]} are good to jose alone: $reasons[$j]" if $seen{$reasons[$j]};
}
File::Path::remove_tree($dir);
done_testing;
