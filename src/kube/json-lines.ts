/**
 * Cuts a byte stream into the JSON values of its lines. Bytes are searched once and joined once per line,
 * however many chunks a line comes in. A last line without its end is kept until the end comes.
 */
export function jsonLines(each: (value: unknown) => void): (chunk: Buffer) => void {
  let parts: Buffer[] = [];
  return chunk => {
    let start = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      const tail = chunk.subarray(start, end);
      const line = parts.length ? Buffer.concat([...parts, tail]) : tail;
      parts = [];
      start = end + 1;
      if (line.length) each(JSON.parse(line.toString('utf8')));
    }
    if (start < chunk.length) parts.push(start ? chunk.subarray(start) : chunk);
  };
}
