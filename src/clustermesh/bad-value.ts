import type * as z from 'zod';

/** A value in an etcd that cannot be believed: which key, which field, what was found, what was expected. */
export class BadValue extends Error {
  readonly key: string;
  readonly field: string;

  constructor(key: string, field: string, found: unknown, expected: string) {
    super(
      `${cut(key, 300)}: ${field ? `${cut(field)}: ` : ''}found ${show(found)}, expected ${cut(expected, 300)}`,
    );
    this.name = 'BadValue';
    this.key = key;
    this.field = field;
  }
}

/**
 * Parses JSON text by a schema. `plain`: what the schema makes of a value that has nothing unusual, where it comes by the
 * hundred thousand; undefined for any other. @throws BadValue naming the first field that is wrong
 */
export function parseJson<T>(
  key: string,
  text: string,
  schema: z.ZodType<T>,
  plain?: (value: unknown) => T | undefined,
): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new BadValue(key, '', text, 'a JSON object');
  }
  return plain?.(value) ?? parseValue(key, value, schema);
}

/** An object of JSON, with none of the names that a schema passes over. */
export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !Object.hasOwn(value, '__proto__');

/** The same for what is parsed already; `field` is where it stands in the whole. @throws BadValue */
export function parseValue<T>(key: string, value: unknown, schema: z.ZodType<T>, field = ''): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const found = issue.path.reduce<unknown>(
    (at, name) => (typeof at === 'object' && at !== null ? Reflect.get(at, name) : undefined),
    value,
  );
  throw new BadValue(key, [...(field ? [field] : []), ...issue.path].join('.'), found, issue.message);
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return cut(text);
}

/** Whoever wrote a value chose the length of everything in it: messages are kept, logged and shown. */
const cut = (text: string, length = 80): string =>
  text.length > length ? `${text.slice(0, length)}…` : text;
