/** Reads instants as callers write them. Pure. */
import { cut } from './text.ts';

export const LAST_INSTANT = Date.parse('9999-12-31T23:59:59.999Z');
const FORM = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)(?::(\d\d)(?:\.\d{1,9})?)?(?:Z|[+-](\d\d):(\d\d))$/;
const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
] as const;

/**
 * An ISO 8601 instant with an offset, in the years 1970 to 9999, or what is wrong with the text. `Date` alone takes
 * 30 February for 2 March.
 */
export function readInstant(value: string): Date | string {
  const parts = FORM.exec(value);
  if (parts === null) return 'must be an ISO 8601 instant with an offset, such as "2026-11-22T18:00:00Z"';
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, offsetHour = 0, offsetMinute = 0] = parts
    .slice(1)
    .map((part: string | undefined) => Number(part ?? 0));
  const date = cut(value, 10);
  const name = MONTHS[month - 1];
  if (name === undefined) return `${date} is not a date (the month must be 01 to 12)`;
  const days = new Date(Date.UTC(year, month, 0)).getUTCDate();
  if (day < 1 || day > days) return `${date} is not a date (${name} ${year} has ${days} days)`;
  if (hour > 23 || minute > 59 || second > 59) return `${value} is not a time (00:00:00 to 23:59:59)`;
  if (offsetHour > 23 || offsetMinute > 59) return `${value} has no valid offset (-23:59 to +23:59)`;
  const instant = new Date(value);
  if (Number.isNaN(instant.getTime())) return `${value} is not an instant`;
  // The database does not take a year that four digits cannot name.
  if (instant.getTime() < 0 || instant.getTime() > LAST_INSTANT) return 'must lie in the years 1970 to 9999 of UTC';
  return instant;
}
