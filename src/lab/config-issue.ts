import type { z } from 'zod';

/** One finding of a schema in a sentence: the field, what stood there, what was expected. */
export function describeIssue(issue: z.core.$ZodIssue, document: unknown): string {
  const field = fieldName(issue.path);
  const at = field === '' ? '' : `${field}: `;
  if (issue.code === 'unrecognized_keys') {
    const keys = issue.keys.map(key => (field === '' ? key : `${field}.${key}`));
    return `${keys.join(', ')}: unknown field`;
  }
  const found = shown(valueAt(document, issue.path));
  const expected =
    issue.code === 'invalid_value'
      ? issue.message.startsWith('Invalid')
        ? issue.values.map(value => JSON.stringify(value)).join(' or ')
        : issue.message
      : issue.code === 'invalid_type'
        ? `a value of type ${issue.expected}`
        : issue.code === 'too_big'
          ? `at most ${issue.maximum}`
          : issue.code === 'too_small'
            ? `at least ${issue.minimum}`
            : issue.message;
  return `${at}found ${found}, expected ${expected}`;
}

/** `nodes[1].role` */
function fieldName(path: readonly PropertyKey[]): string {
  return path
    .map((part, i) => (typeof part === 'number' ? `[${part}]` : i === 0 ? String(part) : `.${String(part)}`))
    .join('');
}

function valueAt(document: unknown, path: readonly PropertyKey[]): unknown {
  let value = document;
  for (const part of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = Reflect.get(value, part);
  }
  return value;
}

function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
