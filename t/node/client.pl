# parleyctl as a client of the conformance suite, which appends the address of its server:
#
#	CTL=parleyctl CONF=FILE perl client.pl URL
#
# All tools that the server offers are called, once each, with what their schemas want; or those that the suite asks for, as it asks.
use strict;
use warnings;

use JSON::XS ();

my $JSON = JSON::XS->new->utf8->canonical->allow_nonref;
my $url = $ARGV[-1];

$ENV{PARLEY_MCP_SERVERS} = 'suite';
$ENV{PARLEY_MCP_SUITE_URL} = $url;

sub ctl {
	open my $from, '-|', $ENV{CTL}, '-c', $ENV{CONF}, 'tools', @_ or die "$ENV{CTL}: $!";
	my $out = do { local $/; <$from> };
	close $from;
	return $out;
}

# Something that fits.
sub value {
	my ($schema) = @_;
	my $type = $schema->{type} // 'string';

	return $schema->{enum}[0] if $schema->{enum};
	return { map { $_ => value($schema->{properties}{$_}) } @{$schema->{required} // []} } if $type eq 'object';
	return [] if $type eq 'array';
	return JSON::XS::true if $type eq 'boolean';
	return $type eq 'number' || $type eq 'integer' ? 7 : 'x';
}

my $table = ctl();
print $table;
my %schema = $table =~ /^suite_(\S+) .*?(\{.*\})$/mg;
my $context = $JSON->decode($ENV{MCP_CONFORMANCE_CONTEXT} // '{}');
my @calls = @{$context->{toolCalls} // []};
unless (@calls) {
	for my $name (sort keys %schema) {
		my $schema = $JSON->decode($schema{$name});
		# What the model would see of the other tool.
		my $a = $name eq 'json_schema_echo' ? { schema => $JSON->decode($schema{json_schema_2020_12_tool} // '{}') } : value($schema);
		push @calls, { name => $name, arguments => $a };
	}
}
for my $call (@calls) {
	# Where the schema wants a type, null is not sent: what has no value is left away.
	my %a = map { defined $call->{arguments}{$_} ? ($_ => $call->{arguments}{$_}) : () } keys %{$call->{arguments} // {}};
	print ctl('call', "suite_$call->{name}", $JSON->encode(\%a), '--user', 'suite');
}
