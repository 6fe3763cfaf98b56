# Parley::Wire -- the corpus of t/wire: what model servers really send, and what must come of it.
#
#	for my $c (Parley::Wire->cases) { … "script:$c->{name}" … }
#	Parley::Wire->check($c, $outcome, \@requests);
#
# A case of expect.json, by the name of its script:
#	text		the answer; of a failed one what was given out before; null: whatever
#	tool_calls	[[name, parameters], …] of the whole turn
#	is_error	of each call, where it matters
#	error_code	null when it succeeds
#	requests	how many the server saw
#	sent		[[n, path, value], …]: what the n-th request held.  A value is compared as it is, or
#			{"same": path}, {"not": text}, {"absent": true}
#	wait		[ms, ms]: between the first two requests
#	history		so many turns before this one, so that there is something to cut
#	conf		other values than conf()
#	usage, estimated, refusal, retry_after, hold, quick	see t/model.t
# An outcome has text, tool_calls ({ tool_name, parameters, is_error }), error_code and requests.
package Parley::Wire;
use strict;
use warnings;
use File::Basename qw(dirname);
use IO::Socket::INET;
use JSON::XS ();
use Test::More;

my $DIR = dirname(__FILE__) . '/../../wire';

sub dir { $DIR }

# [model], in milliseconds: short, and yet long enough for a busy machine under a sanitizer.
sub conf {
	return { retries => 2, retry_base => 50, retry_max => 2000, first_byte_timeout => 3000,
		idle_timeout => 1500, call_timeout => 6000 };
}

sub cases {
	open my $f, '<', "$DIR/expect.json" or die "expect.json: $!";
	my $all = JSON::XS->new->utf8->decode(do { local $/; <$f> });
	return map { { name => $_, %{ $all->{$_} } } } sort keys %$all;
}

sub check {
	my ($class, $c, $o, $requests) = @_;

	is $o->{error_code}, $c->{error_code}, 'error_code' or diag explain $o;
	is $o->{text}, $c->{text}, 'text' if defined $c->{text};
	is_deeply [map { [@$_{qw(tool_name parameters)}] } @{ $o->{tool_calls} }], $c->{tool_calls}, 'calls';
	is_deeply [map { $_->{is_error} ? 1 : 0 } @{ $o->{tool_calls} }], [map { $_ ? 1 : 0 } @{ $c->{is_error} }],
		'calls that were not run' if $c->{is_error};
	is $o->{requests}, $c->{requests}, 'requests made' if defined $o->{requests};
	is scalar @$requests, $c->{requests}, 'requests seen';

	for my $sent (@{ $c->{sent} // [] }) {
		my ($n, $path, $want) = @$sent;
		my ($got, $there) = walk($requests->[$n - 1]{body}, $path);

		if (ref $want eq 'HASH' && exists $want->{absent}) {
			ok !$there, "request $n: no $path";
		} elsif (ref $want eq 'HASH' && exists $want->{same}) {
			my ($other) = walk($requests->[$n - 1]{body}, $want->{same});
			ok defined $got && length $got, "request $n: $path is there";
			is $got, $other, "request $n: the same as $want->{same}";
		} elsif (ref $want eq 'HASH' && exists $want->{not}) {
			isnt $got, $want->{not}, "request $n: $path";
		} else {
			is_deeply $got, $want, "request $n: $path";
		}
	}
	if ($c->{wait} && @$requests > 1) {
		my $ms = $requests->[1]{t_ms} - $requests->[0]{t_ms};
		my ($least, $most) = @{ $c->{wait} };

		cmp_ok $ms, '>=', $least, 'waits as long as it was asked to';
		cmp_ok $ms, '<=', $most, 'and not for ever' if defined $most;
	}
}

# A member by its path: "messages.2.tool_calls.0.id"; second: is it there?
sub walk {
	my ($o, $path) = @_;

	for my $key (split /\./, $path) {
		if (ref $o eq 'HASH' && exists $o->{$key}) {
			$o = $o->{$key};
		} elsif (ref $o eq 'ARRAY' && $key =~ /^\d+$/ && $key < @$o) {
			$o = $o->[$key];
		} else {
			return (undef, 0);
		}
	}
	return ($o, 1);
}

# A port on which nobody listens.
sub closed_port {
	my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "socket: $!";
	return $s->sockport;
}

1;
