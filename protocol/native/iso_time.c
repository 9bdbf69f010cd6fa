/* Calendar arithmetic on the proleptic Gregorian calendar, for years that 63 bits of ns after 1970 hold. */
#include "iso_time.h"

#define FIRST INT64_C(1000000000000000000) /* September 2001, the earliest time that counts as known */
#define FIRST_YEAR 2001
#define LAST_YEAR 2262

/* Value of `count` digits, or -1. */
static int digits(const char *p, int count) {
    int value = 0;
    for (int i = 0; i < count; i++) {
        if (p[i] < '0' || p[i] > '9') return -1;
        value = value * 10 + (p[i] - '0');
    }
    return value;
}

static int is_leap(int year) { return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0; }

/* Days from 1 January 1970 to a day of a year from 1970 on. */
static int64_t days_since_1970(int year, int month, int day) {
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int past = year - 1;
    return (int64_t)(year - 1970) * 365 + (past / 4 - past / 100 + past / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400) +
           before[month - 1] + (month > 2 && is_leap(year)) + day - 1;
}

static int days_of(int year, int month) {
    return month == 2 ? 28 + is_leap(year) : 30 + ((month + (month > 7)) & 1);
}

int tc_iso_ns(const char *text, size_t length, int64_t *ns) {
    static const char form[] = "0000-00-00T00:00:00";
    const size_t fixed = sizeof form - 1;
    *ns = 0;
    if (length <= fixed) return -1;
    for (size_t i = 0; i < fixed; i++)
        if (form[i] == '0' ? text[i] < '0' || text[i] > '9' : text[i] != form[i]) return -1;
    const char *p = text + fixed, *end = text + length;
    int64_t fraction = 0, unit = 100000000;
    int too_fine = 0;
    if (*p == '.') {
        const char *first = ++p;
        for (; p < end && *p >= '0' && *p <= '9'; p++, unit /= 10) {
            fraction += unit * (*p - '0');
            too_fine |= unit == 0 && *p != '0';
        }
        if (p == first) return -1;
    }
    if (!(end - p == 1 && *p == 'Z') &&
        !(end - p == 6 && p[0] == '+' && p[3] == ':' && digits(p + 1, 2) == 0 && digits(p + 4, 2) == 0))
        return -1;
    int year = digits(text, 4), month = digits(text + 5, 2), day = digits(text + 8, 2);
    int hour = digits(text + 11, 2), minute = digits(text + 14, 2), second = digits(text + 17, 2);
    if (too_fine || year < FIRST_YEAR || year > LAST_YEAR || month < 1 || month > 12 || day < 1 || day > days_of(year, month) ||
        hour > 23 || minute > 59 || second > 59)
        return 1;
    int64_t seconds = days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second, value;
    if (__builtin_mul_overflow(seconds, INT64_C(1000000000), &value) || __builtin_add_overflow(value, fraction, &value) ||
        value < FIRST)
        return 1;
    *ns = value;
    return 0;
}

int tc_kst_ns(const char *text, size_t length, int64_t ts_recv_ns, int64_t *ns) {
    static const int64_t second = 1000000000, hour = 3600 * second, day = 24 * hour, ahead = 9 * hour;
    size_t blanks = 0;
    *ns = 0;
    while (blanks < length && text[blanks] == ' ') blanks++;
    if (blanks == length) return 1;
    if (length != 6) return -1;
    int hours = digits(text, 2), minutes = digits(text + 2, 2), seconds = digits(text + 4, 2);
    if (hours < 0 || minutes < 0 || seconds < 0) return -1;
    if (hours > 23 || minutes > 59 || seconds > 59 || ts_recv_ns < FIRST || ts_recv_ns > INT64_MAX - 2 * day) return 1;
    int64_t local = ts_recv_ns + ahead;
    int64_t value = local - local % day + ((hours * 60 + minutes) * 60 + seconds) * second - ahead;
    if (value - ts_recv_ns > day / 2) value -= day;
    if (ts_recv_ns - value > day / 2) value += day;
    if (value - ts_recv_ns > hour || ts_recv_ns - value > hour) return 1;
    *ns = value;
    return 0;
}
