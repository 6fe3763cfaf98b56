/*
 * json_tree -- the tree of a text that json_check() has passed, for json.c alone.
 *
 * json-c keeps the tree, but does not read the text: its tokener looks again for every
 * mistake that json_check() has just excluded, sets up a locale and 34 levels for each text, and
 * loses what is beyond 64 bits.  Recursion is bounded by JSON_DEPTH_MAX.  Nothing yields.
 */
#ifndef PARLEY_IO_JSON_TREE_H
#define PARLEY_IO_JSON_TREE_H

#include <stdbool.h>
#include <stddef.h>

#include <json-c/json_object.h>

/*
 * The caller's; NULL is the text "null".  An integer beyond 64 bits, like a number with a fraction or an exponent,
 * becomes a double that remembers its text.  Of two members of one name the last stays, and *twice is set.
 */
json_object *json_tree(const char *, size_t, bool *twice);

#endif
