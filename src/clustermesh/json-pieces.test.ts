import assert from 'node:assert/strict';
import { test } from 'node:test';
import { JsonPieces } from './json-pieces.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** What the pieces and the outline say together; `parsed`: how many members were parsed for it. */
class Reader {
  readonly #pieces = new JsonPieces<Readonly<Record<string, unknown>>>(['big', 'more']);
  parsed = 0;

  read(text: string): unknown {
    this.parsed = 0;
    const { outline, objects } = this.#pieces.cut(bytes(text), (_, members) => {
      this.parsed += Object.keys(members).length;
      return members;
    });
    const whole = JSON.parse(outline) as Record<string, unknown>;
    for (const [field, parts] of objects) {
      assert.deepEqual(whole[field], {});
      whole[field] = Object.fromEntries(parts.flatMap(part => Object.entries(part)));
    }
    return whole;
  }
}

const members = (count: number): [string, unknown][] =>
  Array.from({ length: count }, (_, n) => [
    `10.2.${n >> 8}.${n & 255}`,
    { p: { Port: 8080, Protocol: 'TCP' } },
  ]);

let seed = 9;
const random = (n: number): number => {
  seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
  return (seed >> 8) % n;
};

test('whatever changes, the pieces together say what the text says, at the cost of what is around the change', () => {
  const reader = new Reader();
  const value = {
    name: 'a',
    big: Object.fromEntries(members(3000)),
    more: { x: [1] },
    end: { big: { y: 1 } },
  };
  const text = (): string => JSON.stringify(value);
  assert.deepEqual(reader.read(text()), value);
  assert.equal(reader.parsed, 3001);
  assert.deepEqual(reader.read(text()), value);
  assert.equal(reader.parsed, 0);
  for (let round = 0; round < 300; round++) {
    const entries = Object.entries(value.big);
    const at = random(entries.length);
    const kind = random(4);
    if (kind === 0) entries.splice(at, 1);
    else if (kind === 1) entries.splice(at, 0, [`new "${round}\\`, { 'p}': ['{', round] }]);
    else if (kind === 2) entries[at] = [entries[at]![0], round];
    else if (random(10) === 0) entries.splice(at, 500);
    else value.more = { x: [round] };
    value.big = Object.fromEntries(entries);
    assert.deepEqual(reader.read(text()), value);
    assert.ok(reader.parsed <= 201, `${reader.parsed} members were parsed`);
  }
});

test('what is the same is the same object, wherever it has moved to', () => {
  const pieces = new JsonPieces<object>(['big']);
  const cut = (list: readonly [string, unknown][]): readonly object[] =>
    pieces
      .cut(bytes(JSON.stringify({ big: Object.fromEntries(list) })), (_, found) => found)
      .objects.get('big')!;
  const list = members(1000);
  const before = cut(list);
  assert.equal(before.length, 10);
  const after = cut([...list.slice(500), ...list.slice(0, 500)]);
  assert.deepEqual(new Set(after), new Set(before));
  assert.equal(after[0], before[5]);
});

test('a text is read as JSON.parse reads it, or not at all', () => {
  const reader = new Reader();
  const values = [
    '{}',
    '{"a":1}',
    '{"a":1,"b":{"c":[1,{}]}}',
    '{ "a" : "}" ,\n"b\\"":null }',
    '{"a":"\\\\"}',
  ];
  for (const value of values) {
    for (const text of [
      `{"big":${value},"z":[]}`,
      ` {"x":{"big":{}}, "more" : ${value} } `,
      `{"big":null,"more":${value}}`,
    ])
      assert.deepEqual(reader.read(text), JSON.parse(text), text);
  }
  const texts = [
    ...['', '{', '{"big":{}', '{"big":{"a":1}', '{"big":{"a":1}}}', '{"big":{"a":1}}x', '{"big":{,}}'],
    ...[
      '{"big":{"a":1,}}',
      '{"big":{"a":1 "b":2}}',
      '{"big":{"a":}}',
      '{"big":{"a":[}]}}',
      '{"big":{"a":1}]',
    ],
    ...[
      '{"big":{"a":1},}',
      '{"big":{a:1}}',
      '{"big":{"a":1\u0000}}',
      '{"big":{"a":"\n"}}',
      '{"big":{"a":tru}}',
    ],
    ...['{"big":{"a":"}}', '{"big":{"a":1},"x":{"big":}}', '{"big":{"a":"\\u12"}}'],
  ];
  for (const text of texts) {
    assert.throws(() => JSON.parse(text), text);
    assert.throws(() => reader.read(text), text);
  }
  // These are JSON, and say the same thing twice.
  for (const text of ['{"big":{"a":1},"big":{"b":1}}', '{"big":{"a":1},"b\\u0069g":{"b":1}}'])
    assert.throws(() => reader.read(text), /twice|escape/);
});

test('a text that is broken anywhere is refused', () => {
  const reader = new Reader();
  const text = JSON.stringify({ name: 'ü', big: { 'a"': 1, b: { c: '\\' } }, more: { d: [] } });
  for (let at = 0; at < text.length; at++)
    for (const by of ['', '"', '{', '}', ',', ':', '\\', ']', ' ', '1']) {
      const broken = text.slice(0, at) + by + text.slice(at + 1);
      let expected: unknown;
      try {
        expected = JSON.parse(broken);
      } catch {
        assert.throws(() => reader.read(broken), broken);
        continue;
      }
      let found: unknown;
      try {
        found = reader.read(broken);
      } catch {
        continue; // it is unusual
      }
      assert.deepEqual(found, expected, broken);
    }
});
