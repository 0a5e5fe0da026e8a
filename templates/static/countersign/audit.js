// The proof of a record, checked by the reader's own browser: SHA-256 up the tree (RFC 9162, 2.1.3.2), then Ed25519.
(() => {
  "use strict";
  const button = document.getElementById("check-here");
  const said = document.getElementById("checked");
  const source = document.getElementById("proof-parts");
  if (!button || !source || !window.crypto || !crypto.subtle) return;
  const parts = JSON.parse(source.textContent);
  if (!parts.entry) return;

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const joined = (...all) => Uint8Array.from(all.flatMap((one) => [...one]));
  const hash = async (...all) => new Uint8Array(await crypto.subtle.digest("SHA-256", joined(...all)));
  const same = (one, other) => one.length === other.length && one.every((value, place) => value === other[place]);

  const climb = async () => {
    let result = await hash([0], bytes(parts.entry));
    let place = BigInt(parts.index);
    let last = BigInt(parts.size) - 1n;
    for (const text of parts.path) {
      const sibling = bytes(text);
      if (last === 0n) throw new Error("The path is too long.");
      if (place & 1n || place === last) {
        result = await hash([1], sibling, result);
        while (!(place & 1n) && place) { place >>= 1n; last >>= 1n; }
      } else {
        result = await hash([1], result, sibling);
      }
      place >>= 1n;
      last >>= 1n;
    }
    if (last !== 0n) throw new Error("The path is too short.");
    return result;
  };

  const signed = async () => {
    const text = new TextEncoder().encode(parts.text);
    for (const raw of parts.keys) {
      const key = await crypto.subtle.importKey("raw", bytes(raw), "Ed25519", false, ["verify"]);
      for (const line of parts.signatures) {
        const signature = bytes(line).slice(4);
        if (signature.length === 64 && await crypto.subtle.verify("Ed25519", key, signature, text)) return true;
      }
    }
    return false;
  };

  const tell = (good, words) => {
    said.textContent = words;
    said.className = `notice ${good ? "success" : "error"}`;
    said.hidden = false;
  };

  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      const [, size, root] = parts.text.split("\n");
      if (Number(size) !== parts.size || !same(await climb(), bytes(root))) {
        tell(false, "This browser comes to another root: the record is not in the signed log.");
        return;
      }
    } catch (error) {
      tell(false, `The proof is malformed: ${error.message}`);
      return;
    }
    try {
      const good = await signed();
      tell(good, good
        ? "This browser came to the signed root from the record's bytes, and the signature of the log's key is right."
        : "This browser came to the root, but the signature is not of the log's key.");
    } catch {
      tell(true, "This browser came to the same root from the record's bytes. It cannot check Ed25519 signatures; the server and the offline program can.");
    }
  });
})();
