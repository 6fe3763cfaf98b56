package Parley::OpenApi;

# What openapi.yaml says, held against what the running server answers.
#
#	my $api = Parley::OpenApi->new;
#	$api->answer_ok('POST', '/api/chat', $r, 'a turn');	# status, type, headers and body are documented
#	$api->shape_ok('Turn', $event->{data}, 'done');		# one of components/schemas
#	my @left = $api->unseen;				# 'GET /api/health 200', …: 2xx that no answer had
#
# A member that the document does not name is a mistake here, though clients must bear it.

use strict;
use warnings;

use Cwd ();
use File::Basename ();
use JSON::Validator ();
use Test::More;
use YAML::XS ();

my $FILE = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../../..') . '/openapi.yaml';

sub new {
	my ($class) = @_;
	local $YAML::XS::Boolean = 'JSON::PP';
	my $doc = YAML::XS::LoadFile($FILE);
	_close($doc->{components}{schemas});
	return bless { doc => $doc, seen => {} }, $class;
}

sub document { $_[0]{doc} }

# No object has members beside those that are named.
sub _close {
	my ($s) = @_;
	if (ref $s eq 'HASH') {
		$s->{additionalProperties} //= JSON::PP::false() if ref $s->{properties} eq 'HASH';
		_close($_) for values %$s;
	} elsif (ref $s eq 'ARRAY') {
		_close($_) for @$s;
	}
}

# The operation that serves a path: a path in full before one with fields in it.
sub _operation {
	my ($self, $method, $path) = @_;
	my $paths = $self->{doc}{paths};

	$path =~ s/\?.*//s;
	for my $name (sort { ($a =~ tr/{//) <=> ($b =~ tr/{//) } keys %$paths) {
		my $re = join '[^/]+', map { quotemeta } split /\{\w+\}/, $name, -1;
		next unless $path =~ /\A$re\z/ && $paths->{$name}{lc $method};
		return ($name, $paths->{$name}{lc $method});
	}
	return;
}

sub _follow {
	my ($self, $thing) = @_;
	while (ref $thing eq 'HASH' && $thing->{'$ref'}) {
		my $at = $self->{doc};
		$at = $at->{$_} for split m{/}, $thing->{'$ref'} =~ s{^#/}{}r;
		$thing = $at;
	}
	return $thing;
}

sub _errors {
	my ($self, $schema, $value) = @_;
	my $whole = { '$schema' => 'https://json-schema.org/draft/2020-12/schema', components => $self->{doc}{components}, allOf => [$schema] };
	return JSON::Validator->new->schema($whole)->validate($value);
}

sub shape_ok {
	my ($self, $name, $value, $what) = @_;
	my @e = $self->_errors({ '$ref' => "#/components/schemas/$name" }, $value);
	ok(!@e, $what) or diag join "\n", @e;
}

sub answer_ok {
	my ($self, $method, $path, $r, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name, $op) = $self->_operation($method, $path);
	my @bad;

	return fail("$what: $method $path is not documented") unless $op;
	my $answer = $self->_follow($op->{responses}{$r->{status}});
	return fail("$what: $method $name has no answer $r->{status}") unless $answer;
	$self->{seen}{"$method $name $r->{status}"} = 1;

	my ($type) = ($r->{headers}{'content-type'} // '') =~ /^([^;\s]*)/;
	my $content = $answer->{content};
	if (!$content) {
		push @bad, 'a body that should not be' if length($r->{body} // '');
	} elsif (!$content->{$type}) {
		push @bad, "the type is $type";
	} elsif ($type eq 'application/json') {
		my $schema = $content->{$type}{schema};
		_close($schema);
		push @bad, $self->_errors($schema, $r->{json});
	}
	for my $header (sort keys %{$answer->{headers} // {}}) {
		# What is there only sometimes says so.
		my $h = $self->_follow($answer->{headers}{$header});
		my $value = $r->{headers}{lc $header};
		push @bad, "no $header" if !defined $value && $h->{required};
		push @bad, map { "$header: $_" } $self->_errors($h->{schema}, $h->{schema}{type} eq 'integer' ? $value + 0 : $value)
		    if defined $value;
	}
	ok(!@bad, $what) or diag join "\n", @bad;
}

# Successes that were never seen.
sub unseen {
	my ($self) = @_;
	my @left;
	for my $path (sort keys %{$self->{doc}{paths}}) {
		for my $method (grep { /^(get|post|patch|put|delete)$/ } sort keys %{$self->{doc}{paths}{$path}}) {
			push @left, map { uc($method) . " $path $_" } grep { /^2/ && !$self->{seen}{uc($method) . " $path $_"} }
			    sort keys %{$self->{doc}{paths}{$path}{$method}{responses}};
		}
	}
	return @left;
}

1;
