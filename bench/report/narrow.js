// Pictures for a phone lie compressed in the page; until they are unpacked, and without JavaScript, the wide ones stand.
const unpackNarrow = async () => {
  const packed = document.getElementById("narrow-pictures");
  if (!isNarrow() || !packed) return;
  const pictures = JSON.parse(await inflate("narrow-pictures"));
  packed.remove();
  for (const [name, svg] of Object.entries(pictures)) document.querySelector(`#${CSS.escape(name)} .plot.narrow`).innerHTML = svg;
  document.documentElement.classList.add("unpacked");
};
matchMedia(NARROW).addEventListener("change", unpackNarrow);
unpackNarrow();
