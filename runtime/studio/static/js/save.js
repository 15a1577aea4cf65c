// Files out, and photos in from drops.

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function below(entry, found) {
  if (entry.name.startsWith(".")) return;
  if (entry.isFile) {
    found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const inner of some) await below(inner, found);
  }
}

const PICTURE = /\.(png|jpe?g|jfif|jpe|webp|avif|avifs|tiff?|bmp|dib|gif|jp2|j2k|jpf|jpx|heic|heif|hif)$/i;

/** Files of a drop or a paste, folders and all. */
export async function filesOf(transfer) {
  const entries = [...(transfer.items || [])].map((i) => i.webkitGetAsEntry?.()).filter(Boolean);
  const found = [];
  for (const entry of entries) await below(entry, found);
  return found.length ? found : [...transfer.files];
}

export const isHintFile = (file) => /\.json$/i.test(file.name);
export const isPicture = (file) => PICTURE.test(file.name) || file.type.startsWith("image/");
