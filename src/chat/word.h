/*
 * word -- is a message nothing but a yes or a no?
 *
 * The words of English, German and Urdu (in Latin letters and in its own script) are built in; the configuration adds others
 * (approvals.yes, approvals.no).  White space and punctuation around the word count for nothing, nor does the case of ASCII
 * letters.  A question mark does: "yes?" is
 * no yes.  Whether the word means anything is the database's to know: it does when exactly one call
 * waits for it.  Nothing yields.
 */
#ifndef PARLEY_CHAT_WORD_H
#define PARLEY_CHAT_WORD_H

struct conf;

enum word { WORD_NONE, WORD_YES, WORD_NO };

enum word word_of(const struct conf *, const char *text);

#endif
