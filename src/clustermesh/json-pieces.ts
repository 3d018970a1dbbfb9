import { decodeText } from '../kvstore/range.ts';

/** Members of a piece: parsing them costs little, and so does the number of pieces of ten thousand. */
const MOST = 100;

const [QUOTE, COMMA, COLON, BACKSLASH] = [0x22, 0x2c, 0x3a, 0x5c];
const [OPEN, CLOSE, OPEN_LIST, CLOSE_LIST] = [0x7b, 0x7d, 0x5b, 0x5d];

/** Some members of an object, one after the other. */
interface Piece<Value> {
  /** `"a":1,"b":2`, a copy: a part would keep the whole text in memory. */
  readonly bytes: Uint8Array;
  readonly members: number;
  readonly value: Value;
}

/** By the name of their first member, as it is written. */
type Pieces<Value> = ReadonlyMap<string, Piece<Value>>;

export interface CutText<Value> {
  /** The text with nothing in the objects that were cut. */
  readonly outline: string;
  /** By field: what the pieces of its object are. A field that is absent, or no object, is not there. */
  readonly objects: ReadonlyMap<string, readonly Value[]>;
}

/** Not cut: perhaps it is no JSON; perhaps it only says the same thing twice, or in an unusual way. */
export class Uncuttable extends Error {}

/**
 * A large JSON object that comes again and again with little of it changed. The objects in its fields that have very many
 * members are cut into pieces of whole members. A piece that was there before, byte for byte, is what it was before:
 * nothing of it is parsed again.
 *
 * The outline is JSON, and each piece between two braces; so the whole is, too, and says what JSON.parse makes of it, but
 * that a name which an object has twice may be in two of its pieces.
 */
export class JsonPieces<Value> {
  readonly #fields: ReadonlySet<string>;
  #known = new Map<string, Pieces<Value>>();

  /** `fields`: names of those of the object's fields that are cut. */
  constructor(fields: Iterable<string>) {
    this.#fields = new Set(fields);
  }

  /**
   * `parse` is called for each new piece. What it throws is thrown, and what is known stays as it was.
   * @throws Uncuttable, SyntaxError
   */
  cut(
    bytes: Uint8Array,
    parse: (field: string, members: Readonly<Record<string, unknown>>) => Value,
  ): CutText<Value> {
    const text = new Scanner(bytes);
    const outline: string[] = [];
    const objects = new Map<string, readonly Value[]>();
    const known = new Map<string, Pieces<Value>>();
    let kept = 0;
    text.members(() => {
      const field = text.name();
      if (field.includes('\\')) throw new Uncuttable('a name with an escape');
      text.colon();
      if (!this.#fields.has(field) || text.byte !== OPEN) return text.skipValue();
      if (known.has(field)) throw new Uncuttable(`${field} is there twice`);
      outline.push(text.slice(kept, text.at + 1));
      const pieces = piecesOf(text, this.#known.get(field), members => parse(field, members));
      kept = text.at - 1;
      objects.set(
        field,
        pieces.map(({ piece }) => piece.value),
      );
      known.set(field, new Map(pieces.map(({ name, piece }) => [name, piece])));
    });
    outline.push(text.slice(kept));
    this.#known = known;
    return { outline: outline.join(''), objects };
  }
}

interface NamedPiece<Value> {
  readonly name: string;
  readonly piece: Piece<Value>;
}

/** Cuts the object that begins where the scanner is, which is behind it afterwards. */
function piecesOf<Value>(
  text: Scanner,
  known: Pieces<Value> | undefined,
  parse: (members: Readonly<Record<string, unknown>>) => Value,
): NamedPiece<Value>[] {
  const found: NamedPiece<Value>[] = [];
  /** Members that are in no piece yet: where each begins, and where the last one ends. */
  let begins: number[] = [];
  let end = 0;
  const flush = (): void => {
    const count = Math.ceil(begins.length / MOST);
    for (let n = 0; n < count; n++) {
      const first = Math.floor((begins.length * n) / count);
      const next = Math.floor((begins.length * (n + 1)) / count);
      const start = begins[first]!;
      // What is between two members is not theirs: after the last one of a piece the text may be anything.
      const stop = n === count - 1 ? end : text.endBefore(begins[next]!);
      const members = JSON.parse(`{${text.slice(start, stop)}}`) as Record<string, unknown>;
      const piece = { bytes: text.copy(start, stop), members: next - first, value: parse(members) };
      found.push({ name: text.nameAt(start), piece });
    }
    begins = [];
  };
  text.members(() => {
    const start = text.at;
    const name = known && text.nameAt(start);
    const piece = name === undefined ? undefined : known?.get(name);
    const isRoomy = piece && begins.length > 0 && begins.length + piece.members <= MOST;
    if (name !== undefined && piece && !isRoomy && text.skip(piece.bytes)) {
      flush();
      found.push({ name, piece });
      return;
    }
    begins.push(start);
    text.skipString();
    text.colon();
    text.skipValue();
    end = text.at;
  });
  flush();
  return found;
}

/** Goes over JSON without making anything of it, and without finding all that is wrong with it. @throws Uncuttable */
class Scanner {
  readonly #bytes: Buffer;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** What is there now; undefined: the end. */
  get byte(): number | undefined {
    return this.#bytes[this.at];
  }

  slice(start: number, end = this.#bytes.length): string {
    return decodeText(this.#bytes.subarray(start, end));
  }

  copy(start: number, end: number): Uint8Array {
    return new Uint8Array(this.#bytes.subarray(start, end));
  }

  /** Goes over an object; `member` goes over each of its members. */
  members(member: () => void): void {
    this.#space();
    this.#expect(OPEN);
    this.#space();
    if (this.byte === CLOSE) {
      this.at++;
      return;
    }
    for (;;) {
      member();
      this.#space();
      if (this.byte !== COMMA) break;
      this.at++;
      this.#space();
    }
    this.#expect(CLOSE);
  }

  /** Goes over a name; returns it as it is written. */
  name(): string {
    const start = this.at;
    this.skipString();
    return this.#bytes.toString('latin1', start + 1, this.at - 1);
  }

  nameAt(start: number): string {
    const end = this.#bytes.indexOf(QUOTE, start + 1);
    return this.#bytes.toString('latin1', start + 1, end);
  }

  colon(): void {
    this.#space();
    this.#expect(COLON);
    this.#space();
  }

  /** Goes over these bytes where they are what comes. */
  skip(bytes: Uint8Array): boolean {
    const end = this.at + bytes.length;
    if (end > this.#bytes.length || this.#bytes.compare(bytes, 0, bytes.length, this.at, end) !== 0)
      return false;
    this.at = end;
    return true;
  }

  /** Where the member ends that is followed by a comma and the one that begins there. */
  endBefore(next: number): number {
    let end = next;
    while (this.#bytes[end] !== COMMA) end--;
    return end;
  }

  skipValue(): void {
    let depth = 0;
    do {
      const byte = this.byte;
      if (byte === QUOTE) {
        this.skipString();
        continue;
      }
      if (byte === undefined) throw new Uncuttable('the text ends');
      if (byte === OPEN || byte === OPEN_LIST) depth++;
      else if (byte === CLOSE || byte === CLOSE_LIST) depth--;
      else if (depth === 0) {
        // A number, true, false or null.
        while (!isEnd(this.byte)) this.at++;
        return;
      }
      this.at++;
    } while (depth > 0);
  }

  skipString(): void {
    this.#expect(QUOTE);
    for (; this.byte !== QUOTE; this.at++) {
      if (this.byte === undefined) throw new Uncuttable('a text has no end');
      if (this.byte === BACKSLASH) this.at++;
    }
    this.at++;
  }

  #space(): void {
    while (isSpace(this.byte)) this.at++;
  }

  #expect(byte: number): void {
    if (this.byte !== byte) throw new Uncuttable(`no ${String.fromCharCode(byte)} at ${this.at}`);
    this.at++;
  }
}

const isSpace = (byte: number | undefined): boolean =>
  byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;

const isEnd = (byte: number | undefined): boolean =>
  byte === undefined || byte === COMMA || byte === CLOSE || byte === CLOSE_LIST || isSpace(byte);
