// Tells why the form came back, and where to go on after it.
const query = new URLSearchParams(location.search);
const reasons = {
  wrong: "That token is not right. It stands in the file named by page.token_file.",
  wait: "Too many wrong tokens: wait a minute, then try again.",
};
const why = reasons[query.get("why")];
if (why) {
  const notice = document.getElementById("why");
  notice.textContent = why;
  notice.hidden = false;
}
document.getElementById("next").value = query.get("next") ?? "/";
