package Parley::ChatKit;

# The ChatKit protocol (POST /api/chatkit) as a client speaks it, and its shapes as checks of Test::More.
#
#	my $k = Parley::ChatKit->new($t, 'alice');
#	my $r = $k->ask('threads.list', { limit => 2 });	# { status, headers, body, json }
#	my @e = $k->say('Hello');			# threads.create: the events, parsed
#	my @e = $k->say('And?', $thread_id);		# threads.add_user_message
#	my @e = $k->stream('threads.retry_after_item', { … });
#	my $c = $k->begin('threads.create', { … });	# a Parley::Client: events come one by one
#	$k->items($thread_id);		# all items, oldest first
#	kinds(@e);			# 'thread.created thread.item.done …', deltas in a row are one
#	item_ok($item, $thread_id, 'name');
#	shown(@e);			# the items that a screen shows after these events
#
# Every stream is checked: framing, one JSON object a line, known events in an order that is allowed.

use strict;
use warnings;

use Exporter 'import';
use JSON::XS ();
use Test::More;

use Parley::Contract;

our @EXPORT = qw(input item_ok kinds shown thread_ok);

my $JSON = JSON::XS->new->utf8->canonical;

sub new {
	my ($class, $t, $user) = @_;
	return bless { t => $t, user => $user }, $class;
}

sub input {
	my ($text, %more) = @_;
	return { content => [{ type => 'input_text', text => $text }], attachments => [], inference_options => {}, %more };
}

sub begin {
	my ($self, $type, $params, %opt) = @_;
	return $self->{t}->begin('POST', '/api/chatkit', { type => $type, params => $params },
	    user => $self->{user}, %opt, headers => { Accept => 'text/event-stream', %{$opt{headers} // {}} });
}

sub ask {
	my ($self, @rest) = @_;
	return $self->begin(@rest)->response;
}

sub stream {
	my ($self, $type, $params, %opt) = @_;
	return $self->finish($self->begin($type, $params, %opt));
}

# All events of a stream that has been begun.
sub finish {
	my ($self, $c) = @_;
	my $r = $c->response;

	subtest 'the stream' => sub {
		is $r->{status}, 200, 'status' or diag $r->{body};
		is $r->{headers}{'content-type'}, 'text/event-stream; charset=utf-8', 'Content-Type';
		is $r->{headers}{'cache-control'}, 'no-cache', 'Cache-Control';
		like $r->{body}, qr/\A(?:data: \{[^\n]*\}\n\n|: [^\n]*\n)*\z/, 'framing';
	};
	return map { $JSON->decode($_) } $r->{body} =~ /^data: (.*)$/mg;
}

sub say {
	my ($self, $text, $thread, %opt) = @_;
	return $self->stream(defined $thread ? ('threads.add_user_message', { thread_id => $thread, input => input($text) }) :
	    ('threads.create', { input => input($text) }), %opt);
}

sub items {
	my ($self, $thread) = @_;
	my $r = $self->ask('items.list', { thread_id => $thread, limit => 100, order => 'asc' });
	is $r->{status}, 200, 'items.list' or diag $r->{body};
	return $r->{json}{data};
}

sub kinds {
	my @kinds = map { $_->{type} eq 'thread.item.updated' ? $_->{update}{type} =~ s/.*[.]//r : $_->{type} =~ s/thread[.]//r } @_;
	return join(' ', @kinds) =~ s/text_delta(?: text_delta)+/text_delta/gr;
}

sub thread_ok {
	my ($t, $name) = @_;
	is_deeply { %{$t // {}}, id => 0, title => 0, created_at => 0, items => 0 },
	    { id => 0, title => 0, created_at => 0, items => 0, status => { type => 'active' }, metadata => {} }, $name;
	like $t->{id}, $UUID, "$name: id";
	like $t->{created_at}, $TIME, "$name: created_at";
}

sub item_ok {
	my ($i, $thread, $name) = @_;
	my %want = (
		user_message => [qw(attachments content inference_options)],
		assistant_message => [qw(content)],
		workflow => [qw(workflow)],
		structured_input => [qw(inputs status)],
	);
	subtest $name => sub {
		is_deeply [sort keys %$i], [sort qw(id thread_id created_at type), @{$want{$i->{type}} // ['?']}], 'members';
		is $i->{thread_id}, $thread, 'thread_id';
		like $i->{created_at}, $TIME, 'created_at';
		if ($i->{type} eq 'workflow') {
			my $w = $i->{workflow};
			is $w->{type}, 'custom', 'custom';
			ok exists $w->{expanded} && !$w->{expanded}, 'expanded is there';
			cmp_ok scalar(@{$w->{tasks}}), '>', 0, 'tasks';
			is_deeply [sort keys %$_], [qw(content icon status_indicator title type)], 'a task' for @{$w->{tasks}};
		} elsif ($i->{type} eq 'assistant_message') {
			is_deeply [map { [sort keys %$_] } @{$i->{content}}], [[qw(annotations text type)]], 'content';
			is_deeply $i->{content}[0]{annotations}, [], 'annotations are there';
		} elsif ($i->{type} eq 'user_message') {
			is_deeply $i->{content}, [{ type => 'input_text', text => $i->{content}[0]{text} }], 'content';
			is_deeply [@$i{qw(attachments inference_options)}], [[], {}], 'what has a default is there';
		}
	};
}

# What the protocol's own accumulator would have: items by id, in the order in which they came.
sub shown {
	my (%item, @order);
	for my $e (@_) {
		if ($e->{type} =~ /^thread\.item\.(added|done|replaced)$/) {
			push @order, $e->{item}{id} unless $item{$e->{item}{id}};
			$item{$e->{item}{id}} = $JSON->decode($JSON->encode($e->{item}));
		} elsif ($e->{type} eq 'thread.item.removed') {
			ok delete $item{$e->{item_id}}, 'removed is what was there';
			@order = grep { $_ ne $e->{item_id} } @order;
		} elsif ($e->{type} eq 'thread.item.updated') {
			my $i = $item{$e->{item_id}} or fail('an update of what is not there'), next;
			my $u = $e->{update};
			if ($u->{type} =~ /content_part\.(?:added|done)$/) {
				$i->{content}[$u->{content_index}] = $u->{content};
			} elsif ($u->{type} =~ /text_delta$/) {
				$i->{content}[$u->{content_index}]{text} .= $u->{delta};
			} elsif ($u->{type} =~ /^workflow\.task\.(added|updated)$/) {
				is $u->{task_index}, scalar @{$i->{workflow}{tasks}}, 'the next task' if $1 eq 'added';
				$i->{workflow}{tasks}[$u->{task_index}] = $u->{task};
			}
		}
	}
	return [map { $item{$_} } @order];
}

1;
